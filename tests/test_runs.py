"""Run folders: what is recorded and compared, weights to start from, logs and pictures."""

import json
import shlex
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib import image
from PIL import Image
from typer.testing import CliRunner

from paradise_cli.build import build_data
from paradise_cli.cli import app
from paradise_cli.core import machine
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.inference.loading import load
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.runs.estimate import dry_run
from paradise_cli.runs.pictures import draw_confusion, draw_curves
from paradise_cli.runs.train import train
from paradise_cli.training.data_identity import differences, identity
from paradise_cli.training.loop import Validation
from paradise_cli.training.run_folder import flat

from .test_training import STEPS, Listener, assert_same, run, weights

COLOURS = {"bird": (200, 30, 30), "cat": (30, 200, 30), "dog": (30, 30, 200), "ant": (90, 90, 90)}
FOLDER = [
    "data.augment=[]",
    "model.backbone={name: mlp, hidden: [8]}",
    "model.mean=null",
    "model.std=null",
    "train.batch_size=10",
    "train.epochs=1",
    "train.precision=fp32",
]


def kept(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def pictures(folder: Path, *classes: str, count: int = 10, seed: int = 0) -> Path:
    """Noisy 8x8 pictures of one colour for each class."""
    draw = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = draw.integers(0, 50, (8, 8, 3))
            pixels = (np.array(COLOURS[name]) + noise).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{seed}-{number:03d}.png")
    return folder


def folder_recipe(root: Path, *overrides: str) -> Recipe:
    data = f"data={{name: image_folder, root: {root}, size: 8}}"
    return load_recipe("digits", [data, *FOLDER, *overrides]).recipe


def fit(recipe: Recipe, out: Path) -> Listener:
    listener = Listener()
    train(recipe, out=out, device="cpu", report=listener)
    return listener


# What was left to the machine


@pytest.mark.parametrize(("fast", "precision"), [(True, "bf16"), (False, "fp32")])
def test_what_was_left_to_the_machine_is_recorded(
    tmp_path: Path, fast: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "fast_bf16", lambda device: fast)
    run(tmp_path, "train.precision=auto", "train.epochs=1")
    recorded = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert "auto" not in flat(recorded).values()
    assert recorded["train"]["precision"] == precision
    for found in (kept(tmp_path, "environment.json"), kept(tmp_path, "result.json")["training"]):
        assert (found["device"], found["precision"]) == ("cpu", precision)
        assert found["channels_last"] is recorded["train"]["channels_last"] is False
    # The evaluation is always in fp32, and says so of itself.
    assert kept(tmp_path, "result.json")["test"]["settings"]["precision"] == "fp32"
    assert read_model(tmp_path / "model.safetensors")[1]["recipe"] == recorded


def test_going_on_keeps_what_the_machine_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "fast_bf16", lambda device: True)
    run(tmp_path, "train.precision=auto", "train.epochs=1")
    before = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(machine, "fast_bf16", lambda device: False)
    (opening,) = run(tmp_path, "train.precision=auto", "train.epochs=1").said
    assert ": cpu, bf16, going on from step" in opening
    recorded = load_recipe(str(tmp_path / "recipe.yaml")).recipe
    assert fit(recorded, tmp_path).records == []
    assert (tmp_path / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match=r"train\.precision: bf16 -> fp32"):
        run(tmp_path, "train.precision=fp32", "train.epochs=1")


def test_fewer_images_than_a_batch_are_told(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", "bird", "cat", "dog")  # 27 to train on
    told = "one step an epoch (27 images are no full batch of 28)"
    for batch, expected in ((28, True), (27, False)):
        recipe = folder_recipe(root, f"train.batch_size={batch}")
        (opening,) = fit(recipe, tmp_path / str(batch)).said
        assert (told in opening) == expected


def test_an_older_folder_that_says_auto_goes_on(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "recipe.yaml"
    older = yaml.safe_load(path.read_text())
    older["train"] |= {"precision": "auto", "channels_last": "auto"}
    path.write_text(yaml.safe_dump(older))
    assert run(tmp_path).records == []
    assert "auto" not in flat(yaml.safe_load(path.read_text())).values()


def test_digits_is_pinned_to_one_arithmetic() -> None:
    assert load_recipe("digits").recipe.train.precision == "fp32"


# Going on longer


def test_more_epochs_are_those_of_a_longer_plan_and_recorded(tmp_path: Path) -> None:
    """With a constant learning rate the two trainings take the same steps."""
    run(tmp_path / "once")
    run(tmp_path / "twice", "train.epochs=2")
    (opening,) = run(tmp_path / "twice").said
    assert opening.endswith(f"going on from step {STEPS // 3 * 2}, to epoch 3 instead of 2")
    assert_same(weights(tmp_path / "once"), weights(tmp_path / "twice"))
    recorded = yaml.safe_load((tmp_path / "twice" / "recipe.yaml").read_text())
    assert recorded["train"]["epochs"] == 3
    expected = [{"step": STEPS // 3 * 2, "epochs_before": 2, "epochs": 3}]
    run(tmp_path / "twice")  # the same command again forgets nothing
    assert kept(tmp_path / "twice", "environment.json")["extended"] == expected
    assert kept(tmp_path / "twice", "result.json")["extended"] == expected
    assert "extended" not in kept(tmp_path / "once", "result.json")
    with pytest.raises(UsageError, match=r"train\.epochs: 3 -> 2"):
        run(tmp_path / "twice", "train.epochs=2")


# Other data


def test_other_data_are_refused_with_the_difference(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", "bird", "cat", "dog")
    chosen = folder_recipe(root)
    fit(chosen, tmp_path / "run")
    fit(chosen, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def refused() -> str:
        with pytest.raises(UsageError, match="was started with other data") as error:
            fit(chosen, tmp_path / "run")
        return str(error.value)

    pictures(root, "bird", "cat", "dog", seed=1)
    assert "  training images: 27 -> 54\n" in refused()
    shutil.rmtree(root)
    pictures(root, "bird", "cat", "dog", seed=1)
    assert "  the training images have other names or labels than before\n" in refused()
    shutil.rmtree(root)
    pictures(root, "bird", "cat", "dog")
    (root / "bird").rename(root / "zebra")
    assert "  classes of 'class': bird, cat, dog -> cat, dog, zebra\n" in refused()
    # Made anew under the same names.
    Image.new("RGB", (8, 8)).save(root / "zebra" / "0-009.png")
    (root / "zebra").rename(root / "bird")
    assert "  the training images have other pixels than before\n" in refused()
    pictures(root, "bird", "cat", "dog")
    pictures(root, "ant")
    assert "bird, cat, dog -> ant, bird, cat, dog\n" in refused()
    shutil.rmtree(root / "ant")
    with pytest.raises(UsageError, match=r"data\.size: 8 -> 9"):
        fit(folder_recipe(root, "data.size=9"), tmp_path / "run")
    elsewhere = pictures(tmp_path / "elsewhere", "bird", "cat", "dog", seed=1)
    with pytest.raises(UsageError, match="have other names or labels than before"):
        fit(folder_recipe(elsewhere), tmp_path / "run")
    now = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert now == before
    fit(chosen, tmp_path / "run")


def test_other_validation_and_test_images_are_refused_by_the_name_of_their_split(
    tmp_path: Path,
) -> None:
    """The first decide which weights are best, the second are what a sweep compares."""
    root = tmp_path / "data"
    for part in ("train", "val", "test"):
        pictures(root / part, "bird", "cat", count=3)
    chosen = folder_recipe(root, "train.batch_size=3", "data.validation=0")
    fit(chosen, tmp_path / "run")

    def refused() -> list[str]:
        with pytest.raises(UsageError, match="was started with other data") as error:
            fit(chosen, tmp_path / "run")
        return str(error.value).splitlines()[1:-1]

    Image.new("RGB", (8, 8)).save(root / "val" / "cat" / "0-001.png")
    assert refused() == ["  the validation images have other pixels than before"]
    (root / "test" / "cat" / "0-001.png").rename(root / "test" / "bird" / "0-004.png")
    renamed = "  the test images have other names or labels than before"
    assert refused() == ["  the validation images have other pixels than before", renamed]
    (root / "test" / "bird" / "0-004.png").unlink()
    assert refused()[1:] == ["  test images: 6 -> 5"]
    shutil.rmtree(root / "test")
    assert refused()[-1] == "  test images: 6 -> 0"


def test_a_checkpoint_that_knows_of_training_images_alone_is_taken() -> None:
    data = build_data(load_recipe("digits").recipe)
    now = identity(data)
    older = {name: value for name, value in now.items() if name not in ("validation", "test")}
    assert now["test"]["images"] == len(data.splits()["test"])
    assert differences(older, now) == []
    # And one that stood on features, which have a shape of their own and no pixels.
    features = older | {"shape": [1280, 1, 1], "pixels": None}
    assert differences(features, now) == []
    assert differences(features | {"images": 1}, now) == ["  training images: 1 -> 1,293"]


def test_data_that_were_moved_and_settings_that_decide_no_number_may_change(
    tmp_path: Path,
) -> None:
    root = pictures(tmp_path / "data", "bird", "cat", "dog")
    constant = "optim.schedule={name: constant}"
    fit(folder_recipe(root, constant, "train.epochs=2"), tmp_path / "whole")
    fit(folder_recipe(root, constant), tmp_path / "run")
    moved = root.rename(tmp_path / "moved")
    changed = folder_recipe(moved, constant, "train.epochs=2", "train.checkpoint_minutes=1")
    fit(changed, tmp_path / "run")
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    recorded = flat(yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()))
    assert recorded["data.root"] == str(moved)
    assert recorded["train.checkpoint_minutes"] == 1


# Weights to start from


def test_a_checkpoint_of_another_recipe_is_refused_whatever_the_folder_says(tmp_path: Path) -> None:
    run(tmp_path / "a", "train.epochs=1")
    expected = weights(tmp_path / "a")
    run(tmp_path / "b", "train.epochs=1", "train.seed=7")
    # Of the same network and the same data: only the recipe tells the two apart.
    for checkpoint in (tmp_path / "b" / "checkpoints").glob("step-*"):
        shutil.copy(checkpoint, tmp_path / "a" / "checkpoints")
    with pytest.raises(UsageError, match=r"step-.* another recipe:\n  train\.seed: 7 -> 0\n"):
        run(tmp_path / "a", "train.epochs=1")
    # Nobody deletes what says of which recipe they are, and gets another one.
    (tmp_path / "b" / "recipe.yaml").unlink()
    with pytest.raises(UsageError, match=r"train\.seed: 7 -> 0\n"):
        run(tmp_path / "b", "train.epochs=1")
    run(tmp_path / "b", "train.epochs=1", "train.seed=7")
    assert (tmp_path / "b" / "recipe.yaml").exists()
    assert_same(weights(tmp_path / "a"), expected)


def test_best_weights_that_are_gone_are_no_best_weights(tmp_path: Path) -> None:
    run(tmp_path, "train.epochs=1")
    best = tmp_path / "checkpoints" / "best.safetensors"
    best.unlink()
    (warning, *_) = run(tmp_path, "train.epochs=1").said
    assert warning.startswith("warning") and str(best) in warning
    assert [row["weights"] for row in kept(tmp_path, "result.json")["weights"]] == ["last plain"]
    # Of the next epoch they are the best again, of those that are left.
    run(tmp_path, "train.epochs=2")
    last, best_of = kept(tmp_path, "result.json")["weights"]
    assert best_of["weights"] == "best plain" and best_of["step"] == last["step"]
    assert read_model(best)[1]["provenance"]["step"] == last["step"]


@pytest.mark.usefixtures("saved_each_epoch")
@pytest.mark.parametrize("retaken", [None, -1.0])
def test_best_weights_of_a_step_that_is_taken_again_are_those_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retaken: float | None
) -> None:
    """A killed process had written them; elsewhere, the step may be no improvement."""
    run(tmp_path, "train.epochs=2")
    best = tmp_path / "checkpoints" / "best.safetensors"
    before, metadata = read_model(best)
    assert metadata["provenance"]["step"] == STEPS // 3 * 2
    # As before the checkpoint of their epoch was written.
    (tmp_path / "checkpoints" / f"step-{STEPS // 3 * 2:09d}.safetensors").unlink()
    (tmp_path / "model.safetensors").unlink()
    if retaken is not None:
        worse = Validation({}, {"plain": (retaken,)})
        monkeypatch.setattr("paradise_cli.runs.train.validation_of", lambda *_: lambda: worse)
    said = run(tmp_path, "train.epochs=2").said
    _, best_of = kept(tmp_path, "result.json")["weights"]
    now, metadata = read_model(best)
    assert metadata["provenance"]["step"] == best_of["step"] == STEPS // 3 * 2
    assert_same(now, before)
    assert str(best) in said[0] and f"of step {STEPS // 3}:" in said[0]


def test_validation_images_without_labels_leave_no_best_weights(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "train", "bird", "cat")
    pictures(tmp_path / "data" / "rest", "ant", count=3)
    (tmp_path / "data" / "rest" / "ant").rename(tmp_path / "data" / "val")
    said = fit(folder_recipe(tmp_path / "data", "data.validation=0"), tmp_path / "run").said
    assert [line for line in said if "validation image" in line] == [
        "note: no validation image has a label for cross_entropy: its scores are left out, and no"
        " best weights are chosen"
    ]
    found = kept(tmp_path / "run", "result.json")
    assert found["judged_on"] == {"split": "validation", "n": 3, "labelled": 0}
    (row,) = found["weights"]
    assert row["weights"] == "last plain" and row["validation"] == {}
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()


def test_a_measurement_that_is_no_number_costs_no_result(tmp_path: Path) -> None:
    run(tmp_path, "train.epochs=1")
    (record,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    name = next(iter(record["validation"]))
    record["validation"][name] = float("nan")
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    run(tmp_path, "train.epochs=1")
    assert kept(tmp_path, "result.json")["weights"][0]["validation"][name] is None


def test_a_head_for_other_classes_starts_anew(tmp_path: Path) -> None:
    fit(folder_recipe(pictures(tmp_path / "old", "bird", "cat", "dog")), tmp_path / "first")
    new = pictures(tmp_path / "new", "ant", "dog")
    chosen = folder_recipe(new, f"train.init={tmp_path / 'first'}", "train.epochs=0")
    started = fit(chosen, tmp_path / "second").said[0]
    assert started == (
        f"starting from {tmp_path / 'first' / 'model.safetensors'}: takes the encoder; head"
        " cross_entropy is new: 2 classes here, 3 other classes there"
    )
    fit(folder_recipe(new, "train.epochs=0"), tmp_path / "scratch")
    first, second, scratch = (weights(tmp_path / name) for name in ("first", "second", "scratch"))
    for name, tensor in second.items():
        source = scratch if name.startswith("heads.") else first
        assert torch.equal(tensor, source[name]), name
    assert load(tmp_path / "second").classes() == {"cross_entropy": ("ant", "dog")}


def test_pixels_are_normalised_as_the_recipe_says_whatever_it_starts_from(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", "bird", "cat")
    theirs = ["model.mean=[0.25, 0.5, 0.75]", "model.std=[0.5, 0.5, 0.5]"]
    fit(folder_recipe(root, *theirs), tmp_path / "first")
    init = [f"train.init={tmp_path / 'first'}", "train.epochs=0"]
    ours = ["model.mean=[0.5, 0.5, 0.5]", "model.std=[0.25, 0.25, 0.25]"]
    started = fit(folder_recipe(root, *ours, *init), tmp_path / "second").said[0]
    assert started.endswith(
        "takes the encoder, head cross_entropy; not its normalisation: pixels are normalised as"
        " this recipe says, there by model.mean=[0.25, 0.5, 0.75] and model.std=[0.5, 0.5, 0.5]"
    )
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert second.pop("mean").flatten().tolist() == [0.5] * 3
    assert second.pop("std").flatten().tolist() == [0.25] * 3
    assert_same(second, {name: first[name] for name in second})
    # Without one there is none: what is saved is what the recipe says.
    fit(folder_recipe(root, *init), tmp_path / "third")
    assert weights(tmp_path / "third")["mean"].flatten().tolist() == [0.0] * 3
    started = fit(folder_recipe(root, *theirs, *init), tmp_path / "fourth").said[0]
    assert started.endswith("takes the encoder, head cross_entropy")


def test_as_many_but_other_classes_are_other_classes(tmp_path: Path) -> None:
    fit(folder_recipe(pictures(tmp_path / "old", "bird", "cat")), tmp_path / "first")
    new = pictures(tmp_path / "new", "cat", "dog")
    chosen = folder_recipe(new, f"train.init={tmp_path / 'first'}", "train.epochs=0")
    started = fit(chosen, tmp_path / "second").said[0]
    assert started.endswith("head cross_entropy is new: 2 classes here, 2 other classes there")
    same = folder_recipe(tmp_path / "old", f"train.init={tmp_path / 'first'}", "train.epochs=0")
    started = fit(same, tmp_path / "third").said[0]
    assert started.endswith("takes the encoder, head cross_entropy")
    assert_same(weights(tmp_path / "first"), weights(tmp_path / "third"))


@pytest.mark.parametrize(("validation", "trained_on"), [("val", 40), ("other", 30)])
def test_a_dry_run_counts_the_steps_of_the_training(
    tmp_path: Path, validation: str, trained_on: int
) -> None:
    """A quarter is held out of 40 images, but not where val/ holds a validation split."""
    for folder, count in (("train", 20), (validation, 2)):
        pictures(tmp_path / folder, "cat", "dog", count=count)
    chosen = folder_recipe(tmp_path, "data.validation=0.25", "train.batch_size=5", "train.epochs=1")
    assert dry_run(chosen, "cpu", steps=1).steps_per_epoch == trained_on // 5
    assert len(build_data(chosen).train) == trained_on


def test_a_dry_run_says_that_a_folder_is_not_there(tmp_path: Path) -> None:
    found = dry_run(folder_recipe(tmp_path / "slip", "train.batch_size=5"), "cpu", steps=1)
    assert found.data == "slip (not there, assumed): 50,000 images 3x8x8"
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(UsageError, match=r"images\.zip: is a file, not a folder"):
        dry_run(folder_recipe(tmp_path / "images.zip"), "cpu", steps=1)


def test_a_dry_run_says_what_a_training_would_start_from(tmp_path: Path) -> None:
    fit(folder_recipe(pictures(tmp_path / "old", "bird", "cat", "dog")), tmp_path / "first")
    new = pictures(tmp_path / "new", "ant", "dog")
    init = f"train.init={tmp_path / 'first'}"
    found = dry_run(folder_recipe(new, init), "cpu", steps=1).init
    assert found is not None and "head cross_entropy is new: 2 classes here" in found
    wider = folder_recipe(new, init, "model.backbone.hidden=[9]")
    for attempt in (lambda: dry_run(wider, "cpu", steps=1), lambda: fit(wider, tmp_path / "wide")):
        with pytest.raises(ParadiseError, match="holds the weights of another model"):
            attempt()
    assert not list((tmp_path / "wide").rglob("*.safetensors"))


def test_what_was_started_goes_on_without_the_weights_it_started_from(tmp_path: Path) -> None:
    run(tmp_path / "first", "train.epochs=1")
    init = f"train.init={tmp_path / 'first'}"
    run(tmp_path / "second", init, "train.epochs=1")
    shutil.rmtree(tmp_path / "first")
    assert run(tmp_path / "second", init, "train.epochs=1").records == []


# TensorBoard


def test_epochs_reach_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for its writer: what is written, where, and that the file is closed."""
    written: list[tuple[str, float, int]] = []
    events: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            events.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            events.append("closed")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    records = run(tmp_path, "train.log=tensorboard").records
    assert events == [(str(tmp_path / "tensorboard"), 1), "closed"]
    assert [step for name, _, step in written if name == "lr"] == [r["step"] for r in records]
    for name, value, step in written:
        (record,) = (r for r in records if r["step"] == step)
        part, _, key = name.partition("/")
        assert value == (record["lr"] if name == "lr" else record[part][key])
    assert {"train/loss", "train/rate", "validation/accuracy/cross_entropy"} <= {
        name for name, _, _ in written
    }


def test_without_tensorboard_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'paradise-cli\[tensorboard\]'"):
        run(tmp_path / "run", "train.log=tensorboard")
    assert not (tmp_path / "run").exists()


# Pictures


@pytest.mark.usefixtures("pictures")
def test_curves_are_drawn_of_what_was_recorded(tmp_path: Path) -> None:
    records = [
        {"epoch": 1, "train": {"loss": 2.0, "distortion": 1.5, "rate": 0.5}},
        {"epoch": 2, "train": {"loss": 1.0}, "validation": {"accuracy/a": 0.5, "accuracy/$b": 1.0}},
    ]
    for name in ("a.png", "b.png"):
        assert draw_curves(records, tmp_path / name, "toy $")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    alone = [{"epoch": 1, "train": {"loss": 2.0}}]
    assert draw_curves(alone, tmp_path / "c.png", "toy")
    widths = [image.imread(tmp_path / name).shape[1] for name in ("a.png", "c.png")]
    assert widths[0] > 3 * widths[1]  # four panels, and one
    assert not draw_curves([], tmp_path / "none.png", "toy")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.usefixtures("pictures")
def test_a_confusion_is_drawn_with_its_shares(tmp_path: Path) -> None:
    """Everything is answered with the first class: its column is dark, all others are white."""
    table = torch.tensor([[3, 0], [5, 0]])
    draw_confusion(table, ["a", "$b"], tmp_path / "a.png", "toy")
    pixels = image.imread(tmp_path / "a.png")[..., :3]
    dark = np.abs(pixels - np.array([8, 48, 107]) / 255).max(2) < 0.02
    columns = np.flatnonzero(dark.any(0))
    height, width = pixels.shape[:2]
    inside = dark[int(0.2 * height) : int(0.7 * height), : int(0.75 * width)]
    assert 0.3 < inside.mean() < 0.6
    assert columns.min() < 0.2 * width
    draw_confusion(
        torch.eye(30, dtype=torch.int64), [str(i) for i in range(30)], tmp_path / "b", ""
    )


def test_a_picture_that_cannot_be_drawn_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert kept(tmp_path, "result.json")["test"] is not None  # before the pictures
        raise RuntimeError("no fonts")

    for name in ("draw_curves", "draw_confusion"):
        monkeypatch.setattr(f"paradise_cli.runs.pictures.{name}", fail)
    said = run(tmp_path, "model.latent_dim=3", "train.epochs=1").said
    assert sum("cannot be drawn, and is left out" in text for text in said) == 2


# What is wrong with a run


def test_a_training_says_that_it_collapsed(tmp_path: Path) -> None:
    chosen = ["objective.alpha=1.0e+6", "model.latent_dim=3", "train.epochs=2"]
    run(tmp_path, *chosen)
    (warning,) = kept(tmp_path, "result.json")["test"]["warnings"]
    assert warning.startswith("collapsed: z carries 0.0")
    assert "objective.alpha = 1e+06 is too large" in warning
    # 1437 images less a tenth, in batches of 100.
    assert "train.epochs = 2 (24 steps) is too small" in warning
    assert "a nat costs 1e+06, and saves at most 1" in warning


def test_a_training_that_hardly_began_is_not_blamed_on_alpha_alone(tmp_path: Path) -> None:
    fit(load_recipe("digits", ["train.epochs=1", "optim.lr=1e-6"]).recipe, tmp_path)
    (warning,) = kept(tmp_path, "result.json")["test"]["warnings"]
    assert "objective.alpha = 0.1 is too large" in warning and "likelier" not in warning
    assert "train.epochs = 1 (20 steps) is too small" in warning


def test_a_training_without_test_images_is_measured_on_validation_images(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", "bird", "cat", "dog")
    recipe = folder_recipe(root, "objective.alpha=1.0e+6")
    trained = train(recipe, out=tmp_path / "run", device="cpu", report=Listener())
    result = kept(tmp_path / "run", "result.json")
    assert result["test"] is None
    assert result["validation"] == json.loads(json.dumps(trained.measured()["validation"]))
    assert result["validation"]["data"] == "data, validation" and result["validation"]["n"] == 3
    (warning,) = result["validation"]["warnings"]
    assert warning.startswith("accuracy 33.33% is no better than always answering 'bird', 33.33%")
    # As anybody measures it again.
    again = ["evaluate", str(tmp_path / "run"), "--split", "validation", "--device", "cpu"]
    done = CliRunner().invoke(app, [*again, "--json"])
    found = json.loads(done.stdout)
    assert found["classification"] == result["validation"]["classification"]


def test_a_training_on_all_images_says_why_nothing_is_measured_and_what_to_do(
    tmp_path: Path,
) -> None:
    root = pictures(tmp_path / "data", "bird", "cat", "dog")
    out = tmp_path / "my run"
    said = fit(folder_recipe(root, "data.validation=0.0"), out).said
    (line,) = [text for text in said if text.startswith("no measurement")]
    assert line.startswith("no measurement, as data has no images that were not trained on; to ")
    command = shlex.split(line.rpartition(": ")[2])
    assert command == ["paradise", "evaluate", str(out), "--data", "DATA"]
    # What it says can be run; here on another folder of the same classes.
    other = pictures(tmp_path / "other", "bird", "cat", "dog", seed=1)
    given = [str(other) if word == "DATA" else word for word in command[1:]]
    done = CliRunner().invoke(app, [*given, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n"] == 30


def test_a_training_with_test_images_says_nothing_of_it(tmp_path: Path) -> None:
    assert not any("no measurement" in text for text in run(tmp_path, "train.epochs=1").said)
