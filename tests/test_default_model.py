"""Where no model is named, the one for such images is taken."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from paradise_cli.core.storage import load_metadata
from paradise_cli.data import DATASETS
from paradise_cli.hub.cards import card, packaged_file, zoo_names
from paradise_cli.inference import default_model as module
from paradise_cli.inference.default_model import ANY, default_model

CARDS = {"clothes": ["fashion_mnist", "1x28x28"], "numbers": ["digits", "1x8x8"], "all": [ANY]}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models, and images of several kinds in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "zoo_names", lambda: list(CARDS))
    monkeypatch.setattr(module, "packaged_file", lambda name: tmp_path)
    monkeypatch.setattr(module, "card", lambda name: SimpleNamespace(default_for=CARDS[name]))
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
    np.savez(tmp_path / "z.npz", images=np.zeros((4, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("digits", "numbers"), ("fashion_mnist:train", "clothes"), ("cifar10", "all"),
        ("grey", "clothes"), ("grey/below/a.png", "clothes"), ("grey/*/*.png", "clothes"),
        ("colour", "all"), ("wide", "all"), ("broken.png", "all"), ("empty", "all"),
        ("grey.npy", "clothes"), ("first.npy", "numbers"), ("last.npy", "numbers"),
        ("three.npy", "all"), ("z.npz", "clothes"), ("nothing", "all"),
    ],
)  # fmt: skip
def test_the_first_image_decides(zoo: None, images: str, expected: str) -> None:
    assert default_model([images, "elsewhere"])[0] == expected


def test_without_images_it_is_the_one_for_any(zoo: None) -> None:
    assert default_model() == ("all", ANY)


def test_no_kind_has_two_models_and_each_model_reads_its_kinds() -> None:
    claims = Counter(kind for name in zoo_names() for kind in card(name).default_for)
    assert claims[ANY] == 1 and set(claims.values()) == {1}
    for name in zoo_names():
        for kind in card(name).default_for:
            path = packaged_file(name)
            assert path is not None, "a default must be there"
            shape = "x".join(map(str, load_metadata(path)["data"]["shape"]))
            assert kind in (ANY, shape) or kind in DATASETS
