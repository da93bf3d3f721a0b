"""Views behind a frozen backbone: crops and flips whose features are computed once."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.data import AUGMENTATIONS, DATASETS, decode
from paradise_cli.inference.feature_views import Viewed, Views
from paradise_cli.inference.features import featured
from paradise_cli.models import BACKBONES, HEADS, StochasticEncoder
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.estimate import dry_run

SIZE, IMAGES = 32, 12
EVERY = torch.arange(IMAGES)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two class folders of ramps, darker on one side, and a cache of their own."""
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, SIZE)[None, :, None]
    for number in range(IMAGES):
        path = tmp_path / "photos" / ("even", "odd")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = ramp + draw.uniform(0, 55, (SIZE, SIZE, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []

    def counted(path: Path, *rest: object):
        seen.append(path)
        return decode(path, *rest)

    monkeypatch.setattr("paradise_cli.inference.image_sources.decode", counted)
    return seen


def encoder() -> StochasticEncoder:
    shape = (3, SIZE, SIZE)
    heads = {"class": HEADS["linear"](3, 2, shape)}
    return StochasticEncoder(BACKBONES["frozen"](shape), heads, latent_dim=3, in_shape=shape).eval()


def flipped(folder: Path, count: int):
    bundle = DATASETS["image_folder"](folder, size=SIZE, memory_gib=0.0)
    views = Views(count, [AUGMENTATIONS["flip"]()], "flip")
    return bundle.train, featured(bundle.train, encoder(), bundle.info, views)


def fetched(split, order: Tensor = EVERY, *, epoch: int = 0, size: int = 5, train: bool = True):
    parts = split.fetch(order, size, ("seed", epoch), train)
    return torch.cat([part.flatten(1).clone() for part in parts])


def test_a_view_is_what_the_backbone_gives_of_an_augmented_image(photos: Path) -> None:
    """With flips alone: of the image or of its mirror, told from the images themselves."""
    images, split = flipped(photos, 4)
    (pixels,) = images.fetch(EVERY, IMAGES, (), False)
    backbone = encoder().backbone
    with torch.no_grad():
        plain, mirrored = backbone(pixels / 255), backbone(pixels.flip(3) / 255)
    torch.testing.assert_close(fetched(split, train=False), plain, atol=1e-4, rtol=0)

    def mirrors(found: Tensor) -> int:
        near = [(found - each).abs().amax(-1) < 1e-4 for each in (plain, mirrored)]
        assert (near[0] ^ near[1]).all()
        return int(near[1].sum())

    # 36 coins, within four standard deviations of 3; of 480 draws among views, 11 each.
    there = mirrors(split.images[split.rows].flatten(2))
    assert abs(there - 18) <= 12
    drawn = sum(mirrors(fetched(split, epoch=epoch)) for epoch in range(40))
    assert abs(drawn - 480 * there / 48) <= 44


def test_a_view_depends_on_image_and_key_alone(photos: Path) -> None:
    """Not on batches, on where a pass began, or on other images of the folder."""
    _, split = flipped(photos, 4)
    whole = fetched(split)
    assert torch.equal(whole, fetched(split, size=IMAGES))
    assert torch.equal(whole[7:], fetched(split, EVERY[7:]))
    assert torch.equal(whole.flip(0), fetched(split, EVERY.flip(0)))
    assert not torch.equal(whole, fetched(split, epoch=1))
    kept = split.images[split.rows].clone()
    part = torch.tensor([7, 3])
    chosen = split.select(part)
    assert torch.equal(chosen.images[chosen.rows], kept[:, part])
    assert list(chosen.ids) == [split.ids[7], split.ids[3]]
    assert split.relabel(split.labels + 1).labels.equal(split.labels + 1)
    assert split.to(torch.device("cpu")) is split
    (photos / "even/00.png").unlink()
    _, fewer = flipped(photos, 4)
    assert torch.equal(fewer.images[fewer.rows], kept[:, 1:])


def test_a_dry_run_counts_features_views_and_the_other_alphas(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 images once and 2 other views of the 9 that are trained on: 30 features. Where a call
    takes 8 seconds, half a second each of 16, that is 15; three alphas train 4 epochs of one step.
    """
    monkeypatch.setattr("paradise_cli.runs.estimate._median_seconds", lambda *_: 8.0)
    views = "model.backbone={name: frozen, model: efficientnet_lite0, views: 3}"
    recipe = load_recipe(
        "photos",
        [f"data.root={photos}", "data.size=32", "data.short_side=null", "data.augment=[flip]",
         "data.validation=0.25", views, "train.frontier=[0.03, 0.1, 0.3]", "train.min_steps=0",
         "train.epochs=4", "train.batch_size=9"],
    ).recipe  # fmt: skip
    found = dry_run(recipe, "cpu")
    assert (found.features_seconds, found.trainings) == (15, 3)
    assert found.seconds == 15 + 3 * 4 * 8
    assert found.data.endswith("12 images 3x32x32")


def test_views_are_computed_once_and_more_of_them_add_to_those_that_are_there(
    photos: Path, decoded: list[Path]
) -> None:
    flipped(photos, 1)
    assert len(decoded) == IMAGES
    flipped(photos, 3)
    assert len(decoded) == 3 * IMAGES
    flipped(photos, 3)
    flipped(photos, 2)
    assert len(decoded) == 3 * IMAGES
    flipped(photos, 4)
    assert len(decoded) == 4 * IMAGES


def test_a_file_that_cannot_be_read_is_named_once(photos: Path) -> None:
    (photos / "odd/01.png").write_bytes(b"no image")
    with pytest.raises(ParadiseError, match=r"1 of 12 images cannot be read") as caught:
        flipped(photos, 3)
    assert str(caught.value).count("01.png") == 1


def test_what_travels_to_another_device_is_the_same() -> None:
    """The meta device stands for it: only shapes and places are known there."""
    images = torch.arange(10.0).view(10, 1, 1, 1)
    split = Viewed(images, torch.zeros(2, 1), ["a", "b"], torch.tensor([[9, 3], [1, 3]]))
    moved = split.to(torch.device("meta"))
    assert moved.images.shape == (4, 1, 1, 1) and moved.rows.tolist() == [[0, 1], [2, 3]]


def train(photos: Path, *chosen: str, code: int = 0):
    given = [
        f"data.root={photos}", f"data.size={SIZE}", f"data.short_side={SIZE}", "train.frontier=[]",
        "train.min_steps=2", "train.epochs=2", "data.validation=0.25", *chosen,
    ]  # fmt: skip
    words = [word for each in given for word in ("--set", each)]
    command = ["train", "photos", *words, "--out", "run", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == code, done.output
    return done


def test_a_recipe_trains_on_views_and_is_judged_on_images(
    photos: Path, decoded: list[Path]
) -> None:
    chosen = ["data.augment=[{name: crop, pad: 4}, {name: flip}]", "model.backbone.views=3"]
    found = json.loads(train(photos, *chosen).stdout)
    # Three views of nine images, and the three that are held out as they are.
    assert found["validation"]["n"] == 3 and len(decoded) == 3 * 9 + 3
    train(photos, *chosen, "train.epochs=3")
    assert len(decoded) == 3 * 9 + 3


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["data.augment=[{name: flip}]"], "leave augmentations out, or let model.backbone.views"),
        (["model.backbone.views=4"], "nothing draws other views: set data.augment"),
        (
            ["data.augment=[{name: flip}]", "model.backbone.views=65"],
            "views must be a whole number from 1 to 64, not 65",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    photos: Path, chosen: list[str], message: str
) -> None:
    assert message in train(photos, *chosen, code=2).stderr
