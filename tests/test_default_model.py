"""Where no model is named, the one for such images is taken."""

from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from paradise_cli.core.errors import UsageError
from paradise_cli.core.storage import load_metadata
from paradise_cli.data import DATASETS
from paradise_cli.hub.cards import Card, Task, card, packaged_file, packaged_for, zoo_names
from paradise_cli.inference import default_model as module
from paradise_cli.inference.default_model import ANY, default_model

KINDS = {"clothes": ["fashion_mnist", "1x28x28"], "numbers": ["digits", "1x8x8"], "all": [ANY]}
CARDS = {name: Card.model_construct(default_for=kinds) for name, kinds in KINDS.items()}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models, and images of several kinds in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "packaged_for", lambda task: CARDS)
    for folder, shape in (("grey", (28, 28)), ("colour", (28, 28, 3)), ("wide", (28, 30))):
        (tmp_path / folder / "below").mkdir(parents=True)
        pixels = np.zeros(shape, np.uint8)
        for name in ("a.png", "b.png"):
            Image.fromarray(pixels).save(tmp_path / folder / "below" / name)
    (tmp_path / "grey" / ".hidden").write_text("no image")
    (tmp_path / "grey" / "README").write_text("no image either")
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    for name, array in {
        "grey": (4, 28, 28), "first": (4, 1, 8, 8), "last": (4, 8, 8, 1), "three": (4, 28, 28, 3),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", np.zeros(array, np.uint8))
    # Of a length that no file has: numpy says so by an OverflowError.
    whole = (tmp_path / "grey.npy").read_bytes()
    (tmp_path / "header.npy").write_bytes(whole.replace(b"(4, 28,", b"(-1,28,"))
    np.savez(tmp_path / "z.npz", images=np.zeros((4, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("digits", "numbers"), ("fashion_mnist:train", "clothes"), ("cifar10", "all"),
        ("grey", "clothes"), ("grey/below/a.png", "clothes"), ("grey/*/*.png", "clothes"),
        ("colour", "all"), ("wide", "all"), ("broken.png", "all"), ("empty", "all"),
        ("header.npy", "all"),
        ("grey.npy", "clothes"), ("first.npy", "numbers"), ("last.npy", "numbers"),
        ("three.npy", "all"), ("z.npz", "clothes"), ("nothing", "all"),
    ],
)  # fmt: skip
def test_the_first_image_decides(zoo: None, images: str, expected: str) -> None:
    assert default_model([images, "elsewhere"])[0] == expected


def test_of_an_array_it_is_one_that_reads_its_size(tmp_path: Path) -> None:
    for name, shape in {"first": (4, 3, 32, 32), "last": (4, 32, 32, 3)}.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, np.zeros(shape, np.uint8))
        assert default_model([str(path)]) == ("cifar10-rn20", "3x32x32")
    # A folder's images are resized.
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    assert default_model([str(tmp_path / "a.png")]) == ("photos-lite0", ANY)


def test_without_images_it_is_the_one_for_any(zoo: None) -> None:
    assert default_model() == ("all", ANY)


@pytest.mark.parametrize("task", get_args(Task))
def test_no_kind_has_two_models_and_each_model_reads_its_kinds(task: Task) -> None:
    able = [name for name in packaged_for(task) if task in card(name).default_to]
    claims = Counter(kind for name in able for kind in card(name).default_for)
    assert set(claims.values()) == {1} and (ANY in claims) is (task != "reconstruct")
    for name in able:
        for kind in card(name).default_for:
            path = packaged_file(name)
            assert path is not None, "a default must be there"
            shape = "x".join(map(str, load_metadata(path)["data"]["shape"]))
            assert kind in (ANY, shape) or kind in DATASETS


def test_cards_say_what_their_models_can_do() -> None:
    for name in zoo_names():
        path = packaged_file(name)
        if path is None:
            assert not {name} & {each for task in get_args(Task) for each in packaged_for(task)}
            continue
        recipe = load_metadata(path)["recipe"]
        tasks = recipe["objective"]["tasks"]
        kinds = {task["distortion"]["name"] == "cross_entropy" for task in tasks}
        can = card(name).can
        assert can("encode") and can("predict") is (True in kinds)
        # Behind a frozen backbone features are reproduced, and no pictures.
        pictures = recipe["model"]["backbone"]["name"] != "frozen"
        assert can("reconstruct") is (False in kinds and pictures)


def test_the_task_decides_as_well() -> None:
    assert default_model(["fashion_mnist"], "reconstruct")[0] == "fashion-mnist-2d-unsupervised"
    for task in ("encode", "predict"):
        assert default_model(["fashion_mnist"], task)[0] == "fashion-mnist-2d-supervised"
    with pytest.raises(UsageError, match=r"can reconstruct such images.*: fashion-mnist-2d-unsup"):
        default_model(["digits"], "reconstruct")
    # Whoever opens this says that there is no such file.
    assert default_model(["nowhere"], "reconstruct") == ("fashion-mnist-2d-unsupervised", ANY)
