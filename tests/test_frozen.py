"""Frozen backbones: the packaged network against an independent one, and features computed once."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, linear, pad
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.storage import read_tensors
from paradise_cli.data import DATASETS, Preprocessing, decode, info_of, list_images
from paradise_cli.inference.feature_store import FeatureStore
from paradise_cli.inference.features import behind_backbone, featured
from paradise_cli.models import BACKBONES, HEADS, StochasticEncoder
from paradise_cli.models.efficientnet import EfficientNetLite0
from tests.pages import ROOT

WEIGHTS = resource_dir("zoo") / "backbones" / "efficientnet_lite0.safetensors"
ORIGINAL = ROOT.parent / "shared/data/efficientnet_lite0/efficientnet_lite0.safetensors"
PHOTOS = os.environ.get("IMAGENET_SAMPLES")
SIZE = 32
# Repeats, kernel, stride, expansion: as published.
BLOCKS = [(1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6),
          (1, 3, 1, 6)]  # fmt: skip
BACKBONE = {"name": "frozen", "model": "efficientnet_lite0"}


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME, from its definition: ceil(size / stride) positions, the odd pixel last."""
    for axis in (2, 3):
        size = x.shape[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before = total // 2
        sides = [0, 0, before, total - before] if axis == 2 else [before, total - before, 0, 0]
        x = pad(x, sides)
    return x


def independent(images: Tensor, convolution) -> Tensor:
    """Logits of the published network; `convolution(name, x, stride, groups)` pads nothing."""
    x = (images * 255 - 127) / 128
    x = convolution("stem", same(x, 3, 2), 2, 1).clamp(0, 6)
    number = 0
    for repeats, kernel, first_stride, expansion in BLOCKS:
        for repeat in range(repeats):
            stride, entered = (1 if repeat else first_stride), x
            if expansion > 1:
                x = convolution(f"blocks.{number}.expand", x, 1, 1).clamp(0, 6)
            x = same(x, kernel, stride)
            x = convolution(f"blocks.{number}.depthwise", x, stride, x.shape[1]).clamp(0, 6)
            x = convolution(f"blocks.{number}.project", x, 1, 1)
            x = x + entered if x.shape == entered.shape and stride == 1 else x
            number += 1
    return convolution("head", x, 1, 1).clamp(0, 6).flatten(2).mean(2)


def folded(tensors: dict[str, Tensor]):
    def convolution(name: str, x: Tensor, stride: int, groups: int) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return conv2d(x, weight, bias, stride, groups=groups)

    return convolution


def with_batch_norm(tensors: dict[str, Tensor]):
    norms = {"stem": "_bn0", "head": "_bn1", "expand": "_bn0", "depthwise": "_bn1",
             "project": "_bn2"}  # fmt: skip

    def convolution(name: str, x: Tensor, stride: int, groups: int) -> Tensor:
        *block, part = name.split(".")
        place = f"_blocks.{block[1]}." if block else ""
        weight = tensors[f"{place}_{part}_conv.weight" if block else f"_conv_{part}.weight"]
        x = conv2d(x, weight, None, stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        norm = [tensors[f"{place}{norms[part]}.{each}"] for each in names]
        return batch_norm(x, *norm, eps=1e-3)

    return convolution


@pytest.mark.parametrize("size", [(64, 64), (65, 50), (33, 32)])
def test_the_packaged_network_is_the_published_one(size: tuple[int, int]) -> None:
    tensors = {name: each.float() for name, each in read_tensors(WEIGHTS)[0].items()}
    network = EfficientNetLite0().eval()
    network.load_state_dict(tensors)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = independent(images, folded(tensors))
        logits = linear(wanted, tensors["classes.weight"], tensors["classes.bias"])
        torch.testing.assert_close(network.classes(network(images)), logits, atol=1e-4, rtol=0)
        frozen = BACKBONES["frozen"]((3, *size))
        torch.testing.assert_close(frozen(images), wanted, atol=1e-5, rtol=0)
    # Nothing to train, nothing to save, and no way out of eval mode.
    assert not list(frozen.parameters()) and not frozen.state_dict()
    assert not any(module.training for module in frozen.train().modules())


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the original weights are not at hand")
def test_the_packaged_weights_are_the_original_ones_folded(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pack_efficientnet

    original = read_tensors(ORIGINAL)[0]
    ours = pack_efficientnet.folded(original)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = independent(images, with_batch_norm(original))
        torch.testing.assert_close(independent(images, folded(ours)), wanted, atol=1e-4, rtol=0)
    packaged = read_tensors(WEIGHTS)[0]
    assert packaged.keys() == ours.keys()
    assert all(torch.equal(packaged[name], ours[name].half()) for name in ours)


@pytest.mark.skipif(not PHOTOS, reason="set IMAGENET_SAMPLES to a folder of one photo a class")
def test_it_names_photos() -> None:
    """Of 1,000 classes, every fifth photo; the files are in the order of the classes."""
    network = EfficientNetLite0().eval()
    network.load_state_dict({n: each.float() for n, each in read_tensors(WEIGHTS)[0].items()})
    how = Preprocessing(3, 256, (224, 224), filter="bicubic")
    files = list_images(Path(PHOTOS or ""))
    right = 0
    for number in range(0, 1000, 5):
        image = torch.from_numpy(decode(files[number], how))[None] / 255
        with torch.no_grad():
            right += int(network.classes(network(image)).argmax()) == number
    assert len(files) == 1000 and right >= 0.88 * 200


def test_bicubic_is_that_of_pillow(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    found = decode(tmp_path / "1.png", Preprocessing(3, 32, (32, 32), filter="bicubic"))
    wanted = Image.fromarray(pixels).resize((32, 41), Image.Resampling.BICUBIC)
    cut = np.array(wanted).transpose(2, 0, 1)[:, 4:36].astype(int)
    assert abs(found.astype(int) - cut).max() <= 1


@pytest.mark.parametrize(
    ("shape", "hyper", "message"),
    [
        ((1, 32, 32), {}, "frozen: efficientnet_lite0 reads images of 3 channels, not 1"),
        ((3, 32, 32), {"model": "efficientnet_lite1"}, "did you mean 'efficientnet_lite0'"),
    ],
)
def test_what_no_frozen_backbone_can_be(shape, hyper, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BACKBONES["frozen"](shape, **hyper)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two class folders of noise around two shades, and a cache of their own."""
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for number in range(40):
        name = "dark" if number % 2 else "light"
        path = tmp_path / "photos" / name / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.normal(80 if number % 2 else 170, 10, (SIZE, SIZE, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "photos"


def encoder() -> StochasticEncoder:
    torch.manual_seed(0)
    shape = (3, SIZE, SIZE)
    heads = {"class": HEADS["linear"](3, 2, shape)}
    return StochasticEncoder(
        BACKBONES["frozen"](shape), heads, latent_dim=3, in_shape=shape
    ).eval()  # fmt: skip


def split_of(folder: Path):
    bundle = DATASETS["image_folder"](folder, size=SIZE, memory_gib=0.0)
    return bundle.train, bundle.info


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []

    def counted(path: Path, *rest: object):
        seen.append(path)
        return decode(path, *rest)

    monkeypatch.setattr("paradise_cli.inference.image_sources.decode", counted)
    return seen


def test_features_are_computed_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = encoder(), decoded(monkeypatch)
    split, info = split_of(photos)
    first = featured(split, model, info)
    assert len(seen) == 40
    (pixels,) = split.fetch(torch.arange(40), 40, (), False)
    with torch.no_grad():
        wanted = model.backbone(pixels / 255)
    (found,) = first.fetch(torch.arange(40), 40, (), False)
    torch.testing.assert_close(found.flatten(1), wanted, atol=1e-5, rtol=0)
    # Another order, a part, a place of another name: nothing is decoded again.
    part = torch.tensor([7, 3])
    (again,) = featured(split.select(part), model, info).fetch(torch.arange(2), 2, (), False)
    assert torch.equal(again, found[part])
    photos.rename(photos.parent / "elsewhere")
    split, info = split_of(photos.parent / "elsewhere")
    featured(split, model, info)
    assert len(seen) == 40
    # A file that changes, and a new one, are all that is decoded.
    changed = photos.parent / "elsewhere/dark/01.png"
    Image.new("RGB", (SIZE, SIZE), "red").save(changed)
    Image.new("RGB", (SIZE, SIZE), "blue").save(changed.with_name("00.png"))
    split, info = split_of(photos.parent / "elsewhere")
    after = featured(split, model, info)
    assert sorted(seen[40:]) == [changed.with_name("00.png"), changed]
    (rows,) = after.fetch(torch.arange(41), 41, (), False)
    old = [i for i, name in enumerate(split.ids) if name not in ("dark/00.png", "dark/01.png")]
    before = [first.ids.index(split.ids[i]) for i in old]
    assert torch.equal(rows[old], found[before])


@pytest.mark.parametrize("damage", ["index", "rows", "line", "bit"])
def test_what_is_cut_off_or_damaged_is_computed_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    model = encoder()
    split, info = split_of(photos)
    whole = featured(split, model, info)
    (found,) = whole.fetch(torch.arange(40), 40, (), False)
    found = found.clone()
    (store,) = (photos.parent / "cache/features").iterdir()
    index, rows = store / "index.jsonl", store / "features.f32"
    if damage == "index":  # as a kill between the rows and their line leaves it
        lines = index.read_bytes().splitlines(keepends=True)
        index.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    elif damage == "rows":
        os.truncate(rows, rows.stat().st_size - 1)
    elif damage == "line":
        index.write_bytes(b'{"keys": 1}\n' + index.read_bytes())
    else:
        with rows.open("r+b") as file:
            file.seek(5)
            file.write(b"\xff")
    seen = decoded(monkeypatch)
    (again,) = featured(split, model, info).fetch(torch.arange(40), 40, (), False)
    assert torch.equal(again, found) and 0 < len(seen) <= 40
    assert not featured(split, model, info).images.isnan().any()
    once = len(seen)
    featured(split, model, info)
    assert len(seen) == once


def test_rows_are_those_of_the_keys_whoever_added_them(tmp_path: Path) -> None:
    one, other = (FeatureStore(tmp_path, 2) for _ in range(2))
    with one.adding() as (known, add):
        assert known == {}
        add(["a", "b"], np.array([[1, 2], [3, 4]], np.float32))
    with other.adding() as (known, add):
        assert known == {"a": 0, "b": 1}
        add(["c"], np.array([[5, 6]], np.float32))
        assert known == {"a": 0, "b": 1, "c": 2}
    assert one.known() == {"a": 0, "b": 1, "c": 2}
    assert one.mapped().flatten(1).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_files_that_cannot_be_read_are_named_and_the_others_kept(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "dark/01.png").write_bytes(b"no image")
    split, info = split_of(photos)
    seen = decoded(monkeypatch)
    for _ in range(2):
        with pytest.raises(ParadiseError, match=r"1 of 40 images cannot be read.*\n.*01.png"):
            featured(split, encoder(), info)
    assert len(seen) == 41


def test_behind_the_backbone_are_the_same_weights() -> None:
    model = encoder()
    rest, info = behind_backbone(model, info_of("image_folder", None, size=SIZE))
    assert info.shape == (1280, 1, 1) and not info.pictures
    assert rest.state_dict().keys() == model.state_dict().keys()
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.no_grad():
        kept = model.backbone(images)[..., None, None]
        for ours, theirs in zip(model.encode(images), rest.encode(kept), strict=True):
            assert torch.equal(ours, theirs)
        rest.mu.weight.zero_()
        assert not model.mu.weight.any()


SIZED = ["--set", f"data.size={SIZE}", "--set", f"data.short_side={SIZE}"]


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == code, done.output
    return done


def test_photos_end_with_a_measurement_and_the_frontier_beside_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without test images on validation images; its own alpha, and the same command again, train
    nothing.
    """
    chosen = [
        "train.frontier=[0.03, 0.1]",
        "train.min_steps=2",
        "data.validation=0.2",
        "model.latent_dim=2",
    ]
    more = [word for each in chosen for word in ("--set", each)]
    command = ["train", "photos", "--set", f"data.root={photos}", *SIZED, *more, "--out", "run"]
    done = run(*command, "--json")
    found = json.loads(done.stdout)
    assert found["test"] is None and found["validation"]["n"] == 8
    own, row = found["frontier"]["runs"]
    assert own["run"] == "alpha=0.03" and own["n"] == 8 and own["error"] is None
    assert own["rate"] == found["validation"]["rate"]["exact"]["nats"]
    assert [path.name for path in Path("run/frontier/points").iterdir()] == ["alpha=0.1"]
    assert row["run"] == "alpha=0.1" and row["n"] == 8 and row["error"] is None
    assert Path("run/frontier/frontier-validation.png").read_bytes().startswith(b"\x89PNG")
    log = Path("run/frontier/points/alpha=0.1/log.txt").stat().st_mtime_ns
    again = run(*command)
    assert "2 classes need" in again.stderr and "frontier/frontier-validation.png" in again.stderr
    assert Path("run/frontier/points/alpha=0.1/log.txt").stat().st_mtime_ns == log
    # A step an epoch: the run and what lies beside it go on to the same.
    longer = json.loads(run(*command, "--set", "train.epochs=31", "--json").stdout)
    steps = [json.loads(Path(each, "result.json").read_text())["steps"]
             for each in ("run", "run/frontier/points/alpha=0.1")]  # fmt: skip
    assert steps == [31, 31] and [row["error"] for row in longer["frontier"]["runs"]] == [None] * 2
    began = json.loads(Path("run/frontier/points/alpha=0.1/environment.json").read_text())
    assert began["extended"] == [{"step": 30, "epochs_before": 30, "epochs": 31}]


def test_other_photos_under_the_same_names_are_refused(photos: Path) -> None:
    """A training on features stands on the photos themselves."""
    shorter = ["train.frontier=[]", "train.min_steps=2", "train.epochs=1", "data.validation=0.2"]
    more = [word for each in shorter for word in ("--set", each)]
    command = ["train", "photos", "--set", f"data.root={photos}", *SIZED, *more, "--out", "run"]
    run(*command)
    for path in photos.rglob("*.png"):
        Image.new("RGB", (SIZE, SIZE), "red").save(path)
    refused = run(*command, code=2).stderr
    assert "the training images have other pixels than before" in refused
    assert "the validation images have other pixels than before" in refused


def test_photos_without_classes_are_learnt_from_their_features(photos: Path) -> None:
    """Squared error of features: no bits leave their variance, and z has to explain some of it."""
    plain, draw = photos.parent / "plain", np.random.default_rng(1)
    plain.mkdir()
    for number in range(40):  # stripes, so that features differ
        wave = np.sin(np.arange(SIZE) * draw.uniform(0.2, 2))[:, None] * draw.uniform(0, 1, 3)
        pixels = np.broadcast_to(127 + 120 * wave, (SIZE, SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(plain / f"{number}.png")
    fewer = ["--set", "train.frontier=[]", "--set", "train.min_steps=200"]
    chosen = [*SIZED, *fewer, "--set", f"data.root={plain}", "--out", "run"]
    refused = run("train", "photos", *chosen, code=2)
    assert "plain has none" in refused.stderr and "photos_unlabelled" in refused.stderr
    found = json.loads(run("train", "photos_unlabelled", *chosen, "--json").stdout)
    loaded = paradise_cli.load("run")
    split, info = split_of(plain)
    kept = featured(split, loaded.model, info)
    (rows,) = kept.fetch(torch.arange(40), 40, (), False)
    variance = float(rows.flatten(1).var(0).sum())
    (distortion,) = found["validation"]["distortion"]
    assert distortion["unit"] == "squared error" and distortion["mean"] < variance
    with pytest.raises(ParadiseError, match="reproduces values, which are no picture"):
        loaded.reconstruct(plain)


def test_trained_measured_and_used(photos: Path, tmp_path: Path, monkeypatch) -> None:
    """By the commands: training and evaluation read features, the others the images, alike."""
    shorter = ["--set", "data.validation=0.2"]
    root = ["--set", f"data.root={photos}", "--set", "train.frontier=[]",
            "--set", "train.min_steps=100"]  # fmt: skip
    run("train", "photos", *root, *SIZED, *shorter, "--out", "run")
    seen = decoded(monkeypatch)
    found = json.loads(run("evaluate", "run", "--split", "train", "--json").stdout)
    assert not seen and found["n"] == 32
    # Shades 90 apart are told apart by their features.
    assert found["classification"][0]["top1"]["value"] > 0.9
    loaded = paradise_cli.load("run")
    tensors, _ = read_tensors(tmp_path / "run/model.safetensors")
    assert not [name for name in tensors if name.startswith("backbone")]
    # What encodes from pixels gives the posteriors that were judged.
    split, info = split_of(photos)
    rest, _ = behind_backbone(loaded.model, info)
    kept = featured(split, loaded.model, info)
    (rows,) = kept.fetch(torch.arange(40), 40, (), False)
    with torch.no_grad():
        wanted = rest.encode(rows).mu.numpy()
    np.testing.assert_allclose(loaded.encode(photos).mean, wanted, atol=1e-4)
