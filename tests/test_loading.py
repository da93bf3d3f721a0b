"""Weights files: what is saved comes back, and nothing damaged ever loads."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import paradise_cli
from paradise_cli.build import build_model
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.storage import DIGEST, content_digest, save_tensors, write_json
from paradise_cli.inference.find_model import short_name
from paradise_cli.inference.loading import load
from paradise_cli.models import weights
from paradise_cli.models.weights import read_model, save_model
from paradise_cli.runs.initial_weights import start_from
from paradise_cli.training.run_folder import RunFolder

from .tiny_model import CLASSES, LATENT, info_for, save_tiny, tiny_recipe


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_a_model_comes_back_as_it_was(file: Path) -> None:
    loaded = load(file)
    recipe = tiny_recipe()
    fresh = build_model(recipe, info_for(recipe)).eval()
    images = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        for ours, theirs in zip(loaded.model.encode(images), fresh.encode(images), strict=True):
            assert torch.equal(ours, theirs)
    assert not loaded.model.training
    assert loaded.recipe == recipe
    assert loaded.info == info_for(recipe)
    assert loaded.provenance == {"step": 0}
    assert loaded.classes() == {"animal": tuple(CLASSES)}


def test_equal_models_are_equal_bytes(tmp_path: Path, file: Path) -> None:
    assert save_tiny(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_channels_last_and_scalars_have_the_same_digest(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    save_model(tmp_path / "a", model, {"x": 1})
    save_model(tmp_path / "b", model.to(memory_format=torch.channels_last), {"x": 1})  # type: ignore[call-overload]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read_model(tmp_path / "b")


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), header=st.booleans())
def test_no_flipped_bit_loads(file: Path, place: float, bit: int, header: bool) -> None:
    data = bytearray(file.read_bytes())
    before = read_model(file)
    head = 8 + int.from_bytes(data[:8], "little")
    data[int(place * (head if header else len(data)))] ^= 1 << bit
    damaged = file.with_name("damaged.safetensors")
    damaged.write_bytes(data)
    try:
        tensors, metadata = read_model(damaged)
    except ParadiseError as error:
        assert str(damaged) in str(error)
        assert "\n" not in str(error)
    else:  # such as 1e-05 and 1E-05: another spelling of the same content
        assert metadata == before[1]
        assert all(torch.equal(tensors[name], t) for name, t in before[0].items())


@settings(max_examples=50, deadline=None)
@given(length=st.floats(0, 1, exclude_max=True))
def test_no_file_cut_short_loads(file: Path, length: float) -> None:
    damaged = file.with_name("short.safetensors")
    data = file.read_bytes()
    damaged.write_bytes(data[: int(length * len(data))])
    with pytest.raises(ParadiseError, match=r"short\.safetensors"):
        load(damaged)


def test_a_flipped_weight_is_seen(tmp_path: Path, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data)
    with pytest.raises(ParadiseError, match="does not match its own digest"):
        load(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ParadiseError, match="pickled weights are never opened"):
        load(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ParadiseError, match="not a readable safetensors file"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_foreign_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ParadiseError, match="no PARADISE metadata"):
        load(path)
    save_tensors(path, {"a": torch.zeros(2)}, {"state": {"step": 3}})
    with pytest.raises(ParadiseError, match="checkpoint, not a model"):
        load(path)
    save_tensors(path, {"a": torch.zeros(2)}, {"state": {"step": 3}, "sha256": "0" * 64})
    with pytest.raises(ParadiseError, match="checkpoint, not a model"):
        load(path)
    save_tensors(path, {"a": torch.zeros(2)}, {"recipe": {}})
    with pytest.raises(ParadiseError, match="carries no digest"):
        load(path)


def test_a_newer_format_asks_for_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FORMAT", 2)
    newer = save_tiny(tmp_path / "newer.safetensors")
    monkeypatch.undo()
    with pytest.raises(ParadiseError, match=r"format 2.*update paradise-cli"):
        load(newer)


def test_weights_of_another_model_are_named(file: Path) -> None:
    recipe = tiny_recipe(latent_dim=LATENT + 1)
    model = build_model(recipe, info_for(recipe))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        ParadiseError, match=r"another model: .*mu.weight \[3, 8\] instead of \[4, 8\]"
    ):
        start_from(model, recipe, info_for(recipe), str(file))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    deterministic = tiny_recipe(stochastic=False)
    with pytest.raises(ParadiseError, match=r"another model: 2 unexpected \(rho"):
        info = info_for(deterministic)
        start_from(build_model(deterministic, info), deterministic, info, str(file))


def edited(path: Path, name: str, value: float) -> Path:
    """A weights file with that value in one tensor, which holds 64 bits, signed anew."""
    save_tiny(path)
    tensors, metadata = read_model(path)
    tensors[name] = tensors[name].double()
    tensors[name].view(-1)[0] = value
    save_tensors(path, tensors, metadata | {DIGEST: content_digest(tensors, metadata)})
    return path


# The last is no number in float32, which ends at 3.4e38.
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_weights_that_are_no_numbers_are_refused_wherever_they_are_loaded(
    tmp_path: Path, value: float
) -> None:
    path = edited(tmp_path / "model.safetensors", "mu.weight", value)
    with pytest.raises(ParadiseError, match=r"model\.safetensors: NaN or infinite .* mu\.weight"):
        load(path)


def test_results_that_are_no_numbers_are_no_results(tmp_path: Path) -> None:
    """Each weight is a number, and what is computed with a std of 0 is none."""
    model = load(edited(tmp_path / "model.safetensors", "std", 0.0))
    for work in (model.encode, model.predict, model.reconstruct):
        with pytest.raises(ParadiseError, match="numbers that are not finite"):
            work(np.ones((2, 12, 12), np.float32))


def test_training_can_start_from_the_weights(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "source.safetensors")
    recipe = tiny_recipe()
    model = build_model(recipe, info_for(recipe))
    torch.nn.init.zeros_(model.mu.weight)
    start_from(model, recipe, info_for(recipe), str(source))
    assert torch.equal(model.mu.weight, load(source).model.mu.weight)


def test_no_file_in_place_of_the_weights_is_said(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ParadiseError, match="is a pipe or a device"):
        load(tmp_path)


def test_run_folders(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="no such run folder or weights file"):
        load(run.path)
    run.checkpoints.mkdir(parents=True)
    with pytest.raises(ParadiseError, match="not a run folder"):
        load(run.path)
    write_json(run.recipe, {})
    with pytest.raises(ParadiseError, match=r"has not finished.*same `paradise train`"):
        load(run.path)
    save_tiny(run.best)
    with pytest.raises(ParadiseError, match=r"has not finished.*best\.safetensors"):
        load(str(run.path))
    assert load(run.best).source == run.best
    save_tiny(run.model)
    assert load(run.path).source == run.model


def test_weights_are_called_after_their_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "alpha-0.3")
    assert short_name(run.model) == "alpha-0.3"
    assert short_name(run.best) == "alpha-0.3-best"
    assert short_name(run.path / "averaged.safetensors") == "alpha-0.3-averaged"
    best_averaged = run.checkpoints / "best_averaged.safetensors"
    assert short_name(best_averaged) == "alpha-0.3-best-averaged"
    assert short_name(tmp_path / "mine.v2.safetensors") == "mine.v2"
    run.path.mkdir()
    monkeypatch.chdir(run.path)
    assert short_name(Path("model.safetensors")) == "alpha-0.3"


def test_an_unknown_name_lists_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path / "small_encoder.safetensors")
    (tmp_path / "small_encoder.yaml").touch()
    monkeypatch.setattr("paradise_cli.hub.cards.resource_dir", lambda kind: tmp_path)
    chosen = "paradise_cli.inference.find_model.default_model"
    monkeypatch.setattr(chosen, lambda: ("small_encoder", "any"))
    assert load("small_encoder").source == load().source == tmp_path / "small_encoder.safetensors"
    with pytest.raises(UsageError, match="did you mean 'small_encoder'"):
        load("small_encodr")


def test_a_model_says_what_it_cannot_do(tmp_path: Path) -> None:
    coder = load(save_tiny(tmp_path / "a.safetensors", decoder=False))
    with pytest.raises(ParadiseError, match=r"only: animal; it can encode and predict\..*2d-unsup"):
        coder.decoders()
    painter = load(save_tiny(tmp_path / "b.safetensors", classifier=False))
    with pytest.raises(ParadiseError, match=r"it can encode and reconstruct\..*digits-2d"):
        painter.classes()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda model: load(3), "3: a model is named by a path or text, not by int"),
        (lambda model: model.encode(3), "no images: int; give a path"),
        (lambda model: model.predict([3]), "no images: list; give a path"),
        (
            lambda model: model.encode("x", samples=-1),
            "samples must be a whole number from 0 to 10,000, not -1",
        ),
    ],
)
def test_what_is_no_model_and_no_images_is_said(
    file: Path, use: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        use(load(file))


def test_a_folder_of_broken_files_alone_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    model = load(save_tiny(tmp_path / "a.safetensors"))
    for use in (model.encode, model.predict, model.reconstruct):
        with pytest.raises(ParadiseError, match=r"no image can be read, of 1 given:\n .*a\.png"):
            use(tmp_path)


def test_load_is_lent_without_importing_torch() -> None:
    assert paradise_cli.load is load
    program = (
        "import sys, paradise_cli; assert 'torch' not in sys.modules; assert"
        " callable(paradise_cli.load)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="lode"):
        paradise_cli.lode  # noqa: B018
