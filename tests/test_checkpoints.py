"""Checkpoints: every bit verified, and an older whole one taken where the newest is damaged."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import DIGEST, load_tensors, save_tensors
from paradise_cli.inference.loading import load
from paradise_cli.training.checkpoint import Checkpoints, Saved, State

from .test_training import STEPS, assert_same, recipe, run, weights


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with the state of an optimiser."""
    folder = tmp_path_factory.mktemp("checkpoint")
    chosen = recipe("model.backbone.hidden=[2]", "optim={name: adam, lr: 0.01}")
    info = build_info(chosen)
    model, objective = build_model(chosen, info), build_objective(chosen, info)
    optimizer = build_optimizer(chosen, model.parameters())
    model(torch.rand(2, *info.shape), torch.zeros(2, 3))[1].sum().backward()
    optimizer.step()
    state = State.new(torch.device("cpu"))
    state.observe({"loss": torch.tensor(1.0)})
    state.step = 7
    Checkpoints(folder, {"recipe": "digits"}).save(
        state, {"model": model, "objective": objective}, optimizer
    )
    (path,) = folder.iterdir()
    return path


def test_no_flipped_bit_is_restored(checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    before = Saved.read(checkpoint)
    head = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(0)
    places = [*rng.sample(range(head), 150), *rng.sample(range(head, len(content)), 50)]
    damaged = tmp_path / "step-000000007.safetensors"
    refused = 0
    for place in places:
        damaged.write_bytes(content)
        flip(damaged, place, rng.randrange(8))
        try:
            found = Saved.read(damaged)
        except ParadiseError as error:
            assert str(damaged) in str(error)
            refused += 1
        else:  # such as 1e-05 and 1E-05, or the name of the digest: the content is the same
            assert_same(found.tensors, before.tensors)
            assert found.metadata["state"] == before.metadata["state"]
    assert refused > 180


@pytest.mark.usefixtures("saved_each_epoch")
def test_a_damaged_newest_checkpoint_gives_way_to_the_older(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "bad")
    newest = tmp_path / "bad" / "checkpoints" / f"step-{STEPS:09d}.safetensors"
    flip(newest, -1)
    (tmp_path / "bad" / "model.safetensors").unlink()
    warning, opening = run(tmp_path / "bad").said
    older = STEPS // 3 * 2
    assert f"{newest} is damaged: its content does not match its own digest" in warning
    assert warning.endswith(f"going on from the checkpoint before it, step {older}")
    assert f"going on from step {older}" in opening
    assert_same(weights(tmp_path / "bad"), weights(tmp_path / "whole"))
    assert_same(
        load_tensors(newest)[0],
        load_tensors(tmp_path / "whole" / "checkpoints" / newest.name)[0],
    )


@pytest.mark.usefixtures("saved_each_epoch")
def test_a_damaged_checkpoint_takes_the_place_of_no_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first checkpoint of a training that went on from the older there are two again."""
    run(tmp_path)
    flip(tmp_path / "checkpoints" / f"step-{STEPS:09d}.safetensors", -1)
    (tmp_path / "model.safetensors").unlink()
    found, save = [], Checkpoints.save

    def listing(self: Checkpoints, state: State, *rest: Any) -> None:
        save(self, state, *rest)
        found.append([Saved.read(path).step for path in sorted(self.folder.glob("step-*"))])

    monkeypatch.setattr(Checkpoints, "save", listing)
    run(tmp_path, "train.checkpoint_minutes=1.0e-9")
    older = STEPS // 3 * 2
    assert found == [[step - 1, step] for step in range(older + 1, STEPS + 1)]


@pytest.mark.usefixtures("saved_each_epoch")
def test_what_to_do_about_a_damaged_file_depends_on_what_it_is_for(tmp_path: Path) -> None:
    """A checkpoint has another before it, or leaves nothing but --fresh; a model has neither."""
    run(tmp_path)
    newest = tmp_path / "checkpoints" / f"step-{STEPS:09d}.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    warning, _ = run(tmp_path).said
    assert f"{newest} is not a readable safetensors file" in warning
    assert "going on from the checkpoint before it" in warning and "train again" not in warning
    model = tmp_path / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ParadiseError, match=r"cut short or .*; restore it or train again$"):
        load(model)


@pytest.mark.usefixtures("saved_each_epoch")
def test_where_all_are_damaged_nothing_is_trained(tmp_path: Path) -> None:
    run(tmp_path)
    paths = sorted((tmp_path / "checkpoints").glob("step-*"))
    flip(paths[0], -1)
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ParadiseError, match="no checkpoint is left: use --fresh") as error:
        run(tmp_path)
    assert all(str(path) in str(error.value) for path in paths)
    assert "train again" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """It carries no digest, does not say which data it stands on, and knows one kind of weights."""
    run(tmp_path)
    newest = tmp_path / "checkpoints" / f"step-{STEPS:09d}.safetensors"
    tensors, metadata = load_tensors(newest)
    assert metadata.pop(DIGEST) and metadata.pop("data")
    (score, _), step = metadata["state"].pop("best")["plain"].values()
    save_tensors(newest, tensors, metadata | {"state": metadata["state"] | older(score, step)})
    before = (tmp_path / "result.json").read_text()
    (opening,) = run(tmp_path).said
    assert f"going on from step {STEPS}" in opening
    assert (tmp_path / "result.json").read_text() == before
    # Nothing was validated yet.
    metadata["state"] |= older(None, 0)
    save_tensors(newest, tensors, metadata)
    assert Saved.read(newest).metadata["state"]["best_score"] is None
    run(tmp_path)
    weights = json.loads((tmp_path / "result.json").read_text())["weights"]
    assert [row["weights"] for row in weights] == ["last plain"]


def older(score: float | None, step: int) -> dict[str, float | int | None]:
    """The best weights as older versions wrote them."""
    return {"best_score": score, "best_step": step}
