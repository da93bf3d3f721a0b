"""What `--data` names, and what reports call it: the same in every command."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from paradise_cli.build import build_info
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.data import DataInfo, Preprocessing, decode
from paradise_cli.inference.image_archive import read_images
from paradise_cli.inference.image_sources import open_images
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.inference.named_data import open_for_anyone, open_for_model
from paradise_cli.models.weights import save_model
from paradise_cli.recipe.schema import Recipe, load_recipe, parse_resolved
from paradise_cli.robustness.classifiers import NamedClassifier
from paradise_cli.robustness.examples import open_examples

from .tiny_model import CLASSES, build_model, info_for, tiny_recipe

COUNT = 24


def photos(folder: Path, count: int = COUNT, names: list[str] = CLASSES) -> Path:
    """Pictures in class folders, in turn."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / names[number % len(names)] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (14, 20, 3), np.uint8)).save(path)
    return folder


def saved(recipe: Recipe, path: Path) -> Path:
    info = info_for(recipe)
    metadata = {"recipe": recipe.resolved(), "data": info.to_json(), "provenance": {}}
    save_model(path, build_model(recipe, info), metadata)
    return path


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    """A model whose recipe calls its data `cifar10-jpeg75`, in a folder that has splits."""
    there = tmp_path / "training"
    for split in ("train", "test"):
        photos(there / split, 30)
    resolved = tiny_recipe(decoder=False, stochastic=False).resolved()
    resolved["data"] |= {"root": str(there), "label": "cifar10-jpeg75"}
    return load(saved(parse_resolved(resolved, "a test"), tmp_path / "m.safetensors"))


def opened(model: LoadedModel, data: str | None = None, **given: Any) -> Any:
    return open_for_model(model.recipe, model.info, data, **given)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_reports_name_the_data_that_were_read(model: LoadedModel, tmp_path: Path) -> None:
    """`--data FOLDER` and `data.root=` kept the recipe's label before."""
    holiday = photos(tmp_path / "holiday")
    assert opened(model).label == "cifar10-jpeg75, test"
    root = f"data.root={holiday}"
    for found in (
        opened(model, str(holiday)),
        opened(model, overrides=[root]),
        opened(model, "image_folder", overrides=[root]),
        opened(model, str(holiday), split="train"),
    ):
        assert found.label == "all of holiday"
        assert len(found.split) == COUNT  # nothing is held out
    assert opened(model, overrides=[root, "data.label=mine"]).label == "all of mine"
    photos(holiday / "test", 6)
    photos(holiday / "train", 9)
    assert opened(model, str(holiday)).label == "holiday, test"
    assert len(opened(model, str(holiday)).split) == 6
    assert len(opened(model, str(holiday), split="train").split) == 9


def test_the_recipes_own_data_keep_their_parts(model: LoadedModel, tmp_path: Path) -> None:
    """Named in another way they are still what the model learned from."""
    there = tmp_path / "training"
    holiday = photos(tmp_path / "holiday" / "train").parent
    for found in (
        opened(model, split="train"),
        opened(model, str(there), split="train"),
        opened(model, str(tmp_path / "holiday" / ".." / "training"), split="train"),
        opened(model, overrides=[f"data.root={there}"], split="train"),
    ):
        assert (found.label, len(found.split)) == ("cifar10-jpeg75, train", 27)
    assert len(opened(model, split="validation").split) == 3
    (holiday / "test").mkdir()
    photos(holiday / "test", 3)
    with pytest.raises(ParadiseError, match="holiday has no validation split; it has: --split tr"):
        opened(model, str(holiday), split="validation")


def test_a_name_with_a_split_is_the_data_set_whatever_folders_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scikit-learn's digits: 1,797 images, of which 360 are for tests."""
    photos(tmp_path / "digits", 6)
    monkeypatch.chdir(tmp_path)
    assert len(open_for_anyone("digits:test").split) == 360
    assert len(open_for_anyone("digits").split) == 6  # the folder itself
    recipe = load_recipe("digits").recipe
    info = build_info(recipe)
    assert len(open_for_model(recipe, info, "digits:test").split) == 360
    assert len(open_images("digits:test", recipe, info).ids) == 360


def test_a_folder_is_read_as_the_training_images_were(tmp_path: Path) -> None:
    """With the crop before the resize, which an image_folder of its own has not."""
    recipe = tiny_recipe(decoder=False)
    info = info_for(recipe)
    how = Preprocessing(1, 12, (12, 12), pre_crop=13)
    info = DataInfo(info.label, info.shape, info.targets, info.train_size, how)
    holiday = photos(tmp_path / "holiday", 3)
    found = open_for_model(recipe, info, str(holiday))
    assert found.info.preprocessing == how
    first = next(found.split.fetch(torch.arange(1), 1, (), False))[0]
    assert np.array_equal(first.numpy(), decode(holiday / "cat" / "000.png", how))


def test_all_commands_take_the_same_names(model: LoadedModel, tmp_path: Path) -> None:
    holiday = photos(tmp_path / "holiday")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 12), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(9) % 3)
    # Of its own 30 training images three are held out, in every command.
    for data, count, label in (
        (holiday, COUNT, "all of holiday"),
        (tmp_path / "own.npz", 9, "own.npz"),
        ("image_folder:train", 27, "cifar10-jpeg75, train"),
        ("image_folder:validation", 3, "cifar10-jpeg75, validation"),
        ("image_folder", 30, "cifar10-jpeg75, test"),
    ):
        found = document("evaluate", model.source, "--data", data, "--device", "cpu")
        assert found["data"] == label
        assert found["n"] == count
        target = NamedClassifier(model.model.classifier(), "m", "m", model, "animal")
        examples = open_examples(target, str(data))
        assert (examples.label, len(examples.images)) == (label, found["n"])
        out = tmp_path / f"{count}.npz"
        found = document("encode", data, "-o", out, "-m", model.source)
        assert found["rows"] == count
        with np.load(out) as z:
            assert z["labels"].shape == (count, 1) and z["labels"].min() == 0
        assert len(document("predict", data, "-m", model.source)["images"]) == count


def test_a_split_that_is_not_there_is_refused_alike_in_all_commands(tmp_path: Path) -> None:
    """Nothing was held out of the training, so there are no validation images."""
    photos(tmp_path / "training", 6)
    resolved = tiny_recipe().resolved()
    resolved["data"] |= {"root": str(tmp_path / "training"), "validation": 0.0}
    source = saved(parse_resolved(resolved, "a test"), tmp_path / "m.safetensors")
    out = tmp_path / "z.npy"
    for split in ("validation", "test"):
        data = f"image_folder:{split}"
        for command in (
            ["evaluate", source, "--data", data],
            ["attack", source, "--data", data],
            ["encode", data, "--model", source, "--out", out],
            ["predict", data, "--model", source],
        ):
            done = run(*command, "--device", "cpu")
            assert done.exit_code == 1
            whose = "training, which the model learned from,"
            assert f"{whose} has no {split} split; it has: image_folder:train\n" in done.stderr
    with pytest.raises(ParadiseError, match=r"from, has no test split; it has: --split train$"):
        opened(load(source))


def test_labels_hidden_in_the_training_are_written_by_encode(tmp_path: Path) -> None:
    photos(tmp_path / "training", 6)
    resolved = tiny_recipe().resolved()
    there = {"root": str(tmp_path / "training"), "validation": 0.0, "labelled": 3}
    resolved["data"] |= there
    model = load(saved(parse_resolved(resolved, "a test"), tmp_path / "m.safetensors"))
    assert int((opened(model, split="train").split.labels >= 0).sum()) == 3
    assert sorted(model.encode("image_folder:train").labels[:, 0]) == [0, 0, 1, 1, 2, 2]


def test_what_should_be_known_of_the_data_is_kept_with_the_number(
    model: LoadedModel, tmp_path: Path
) -> None:
    holiday = photos(tmp_path / "holiday", names=["cat", "dog"])
    notes = document("evaluate", model.source, "--data", holiday, "--device", "cpu")["notes"]
    assert notes[0] == "holiday has no test split: all of its 24 images are taken"
    assert "holiday has 2 of the model's 3 classes ('cat', 'dog')" in notes[1]
    # Whoever asks for what was held out of the training must not be given all.
    with pytest.raises(ParadiseError, match=r"holiday has no validation split; it has: "):
        opened(model, data=str(holiday), split="validation")


def test_an_archive_is_judged_by_the_models_numbers(model: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    pixels = np.random.default_rng(0).random((40, 12, 12))
    labels = np.arange(40) % 3
    np.savez(path, images=pixels, labels=labels)
    answers = model.predict(pixels.astype(np.float32)).probabilities["animal"].argmax(1)
    found = document("evaluate", model.source, "--data", path, "--device", "cpu")
    share = found["classification"][0]["top1"]["value"]
    assert share == pytest.approx(float((answers == labels).mean()))
    np.savez(path, images=pixels)
    assert document("evaluate", model.source, "--data", path, "--device", "cpu")["unlabelled"] == 40
    assert read_images(path).labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 9, 9), np.uint8)}, r"images \[1, 9, 9\], the model reads \[1, 12"),
        ({"images": np.zeros((4, 12, 12)), "labels": np.full(4, 3)},
         r"own\.npz: labels of 'class' run from 3 to 3, but it has"),
        ({"images": np.zeros((4, 12, 12)), "labels": np.zeros((4, 2), int)}, "4 integers are need"),
        ({"images": np.full((4, 12, 12), 255.0)}, r"must lie in \[0, 1\].*divide by 255"),
        ({"images": np.zeros((4, 3, 8, 0))}, r"own\.npz: images of shape .* have no pixels"),
        ({"mean": np.zeros((4, 3))}, "has no array images or labels; it has: mean"),
    ],
)  # fmt: skip
def test_archives_that_do_not_fit(
    model: LoadedModel, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ParadiseError, match=message):
        opened(model, str(tmp_path / "own.npz"))


def test_names_that_mean_nothing(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        opened(model, "digts")
    with pytest.raises(UsageError, match="no split 'tset'; did you mean 'test'"):
        opened(model, "digits:tset")
    with pytest.raises(UsageError, match=r"nothing to set of an \.npz"):
        opened(model, "a.npz", overrides=["data.size=3"])
    for ask in (partial(opened, model), open_for_anyone):
        with pytest.raises(UsageError, match="they name two splits"):
            ask("digits:train", split="test")
    assert len(open_for_anyone("digits:test", split="test").split) == 360
    with pytest.raises(UsageError, match=r"--split train: an \.npz has no splits"):
        opened(model, "a.npz", split="train")
    with pytest.raises(UsageError, match=r"no such file: nowhere\.npz"):
        opened(model, "nowhere.npz")
    with pytest.raises(UsageError, match=r"--data digts: no such folder or \.npz"):
        open_for_anyone("digts")
    # What is there is not denied.
    for name, reason in (("x.npy", "an .npy has no labels"), ("x.png", "this file holds no data")):
        path = tmp_path / name
        path.write_bytes(b"")
        for ask in (partial(opened, model), open_for_anyone):
            with pytest.raises(UsageError, match=f"{name}: {reason}.*; name an .npz with images"):
                ask(str(path))


def test_a_path_that_does_not_exist_ends_alike_in_every_command(
    model: LoadedModel, tmp_path: Path
) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "z.npy"
    for command in (
        ["evaluate", nowhere],
        ["evaluate", model.source, "--data", nowhere],
        ["evaluate", model.source, "--data", f"{nowhere}.npz"],
        ["evaluate", model.source, "--set", f"data.root={nowhere}"],
        ["evaluate", model.source, "--data", "celeba", "--set", f"data.root={nowhere}"],
        ["attack", model.source, "--data", nowhere],
        ["attack", model.source, "--suite", "transfer", "--source", nowhere],
        ["certify", model.source, "--sigma", "1", "--data", nowhere],
        ["encode", nowhere, "--model", model.source, "--out", out],
        ["encode", nowhere / "*.png", "--model", model.source, "--out", out],
        ["predict", nowhere, "--model", model.source],
        ["predict", f"{nowhere}.npz", "--model", model.source],
        ["predict", tmp_path, "--model", nowhere],
        ["reconstruct", nowhere, "--model", model.source, "--out", tmp_path / "a.png"],
        ["train", nowhere],
        ["train", "digits", "--set", f"data={{name: image_folder, root: {nowhere}}}"],
        ["train", "digits", "--set", f"data={{name: mnist, root: {nowhere}}}"],
        ["sweep", nowhere, "--alpha", "1"],
        ["rate", f"{nowhere}.npz"],
        ["rd", f"{nowhere}.npz"],
    ):
        done = run(*command, *([] if command[0] in ("rate", "rd") else ["--device", "cpu"]))
        assert done.exit_code == 2, done.output
        assert str(nowhere) in done.stderr and "Traceback" not in done.output
    assert not list(tmp_path.glob("runs/*"))


def test_a_grey_picture_or_a_thumbnail_does_not_decide_how_all_are_read(tmp_path: Path) -> None:
    folder = photos(tmp_path / "some", 12)
    assert open_for_anyone(str(folder)).info.shape == (3, 14, 14)
    first = min(folder.rglob("*.png"))
    Image.new("L", (2, 2)).save(first)
    found = open_for_anyone(str(folder))
    assert found.info.shape == (3, 14, 14)
    assert "differ in size or colour: the middle of each is read as 3 x 14 x 14" in found.notes[-1]
    chosen = open_for_anyone(str(folder), overrides=["data.size=8", "data.channels=1"])
    assert chosen.info.shape == (1, 8, 8) and "differ" not in " ".join(chosen.notes)
    first.write_text("hello")
    with pytest.raises(ParadiseError, match="1 of 12 images cannot be read"):
        open_for_anyone(str(folder))
    assert len(open_for_anyone(str(folder), overrides=["data.skip_unreadable=true"]).split) == 11


def test_of_oblong_pictures_the_middle_is_read_and_that_is_said(tmp_path: Path) -> None:
    folder = photos(tmp_path / "some", 12)
    found = open_for_anyone(str(folder))
    assert found.info.shape == (3, 14, 14)
    assert "are 3 x 14 x 20: the middle, 3 x 14 x 14, is read of each" in found.notes[-1]
    for file in folder.rglob("*.png"):
        Image.new("RGB", (16, 16)).save(file)
    assert "is read" not in " ".join(open_for_anyone(str(folder)).notes)
