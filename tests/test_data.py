"""Splits, batches, augmentations and partitions."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from paradise_cli.build import build_data, build_info
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator, keyed_uniform, permutation
from paradise_cli.data import (
    AUGMENTATIONS,
    DATASETS,
    DataBundle,
    DataInfo,
    MemorySplit,
    Preprocessing,
    Target,
    batches,
    hold_out,
    info_of,
    keep_labels,
    synthetic,
)
from paradise_cli.data.partition import stratified
from paradise_cli.recipe.schema import load_recipe

CPU = torch.device("cpu")
INFO = DataInfo(
    "toy", (3, 6, 5), (Target("kind", ("a", "b", "c")),), 0, Preprocessing(3, None, (6, 5))
)


KEYS = torch.arange(64) * 7


def naive_crop(images: Tensor, pad: int, mode: str, keys: Tensor) -> Tensor:
    top, left = (keyed_uniform(keys, (2,)) * (2 * pad + 1)).floor().T
    _, h, w = images.shape[1:]
    out = torch.zeros_like(images)
    for b in range(len(images)):
        for i in range(h):
            for j in range(w):
                y, x = i + int(top[b]) - pad, j + int(left[b]) - pad
                if mode == "reflect":
                    y, x = h - 1 - abs(h - 1 - abs(y)), w - 1 - abs(w - 1 - abs(x))
                if 0 <= y < h and 0 <= x < w:
                    out[b, :, i, j] = images[b, :, y, x]
    return out


@settings(max_examples=15, deadline=None)
@given(
    b=st.integers(1, 4),
    c=st.integers(1, 3),
    h=st.integers(3, 6),
    w=st.integers(3, 6),
    pad=st.integers(0, 2),
    mode=st.sampled_from(["zero", "reflect"]),
)
def test_crop_equals_a_loop_over_images(
    b: int, c: int, h: int, w: int, pad: int, mode: str
) -> None:
    images = torch.randint(0, 256, (b, c, h, w), generator=generator(b, h), dtype=torch.uint8)
    crop, keys = AUGMENTATIONS["crop"](pad=pad, mode=mode), KEYS[:b]
    got = crop(images, keys)
    assert torch.equal(got, naive_crop(images, pad, mode, keys))
    assert torch.equal(crop(images.contiguous(memory_format=torch.channels_last), keys), got)


def test_flip_decides_for_each_image() -> None:
    images = synthetic(INFO, 64).train.images
    got = AUGMENTATIONS["flip"]()(images, KEYS)
    mirrored = keyed_uniform(KEYS, ()) < 0.5
    for image, before, mirror in zip(got, images, mirrored, strict=True):
        assert torch.equal(image, before.flip(2) if mirror else before)
    assert 0 < mirrored.sum() < 64


def test_crop_decides_for_each_image() -> None:
    same = synthetic(INFO, 1).train.images.expand(64, -1, -1, -1)
    assert len(AUGMENTATIONS["crop"](pad=2)(same, KEYS).unique(dim=0)) > 10


@pytest.mark.parametrize("name", ["crop", "flip"])
def test_what_an_augmentation_does_to_an_image_its_key_decides_alone(name: str) -> None:
    images, augment = synthetic(INFO, 64).train.images, AUGMENTATIONS[name]()
    whole, some = augment(images, KEYS), torch.tensor([40, 3, 11])
    assert torch.equal(augment(images[some], KEYS[some]), whole[some])


def test_places_of_crops_are_uniform() -> None:
    """Counts of 25 places among 20,000, chi-square with 24 degrees: 99.99% lie below 60."""
    marked = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    marked[0, 0, 2, 2] = 1
    crops = AUGMENTATIONS["crop"](pad=2)(marked.expand(20_000, -1, -1, -1), torch.arange(20_000))
    counts = crops.sum((0, 1)).flatten().double()
    assert float(((counts - 800).square() / 800).sum()) < 60


class NoSync(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select"}, name
        if name == "index":
            assert all(i is None or i.dtype != torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


def augmentations() -> list:
    return [AUGMENTATIONS["crop"](pad=1), AUGMENTATIONS["flip"]()]


def test_batches_never_wait_for_the_device() -> None:
    split = synthetic(INFO, 20).train
    with NoSync():
        seen = list(
            batches(
                split, order=torch.arange(20), batch_size=8, device=CPU, augment=augmentations()
            )
        )
    assert [len(b.images) for b in seen] == [8, 8, 4]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 9])
def test_a_pass_that_starts_later_sees_the_same_batches(start: int, drop_last: bool) -> None:
    split = synthetic(INFO, 21).train
    order = permutation(21, 3)
    options = {
        "order": order,
        "batch_size": 6,
        "device": CPU,
        "augment": augmentations(),
        "key": (1, 2),
        "drop_last": drop_last,
    }
    whole = list(batches(split, **options))[start:]
    later = list(batches(split, start=start, **options))
    assert len(later) == len(whole) == max(0, (3 if drop_last else 4) - start)
    for a, b in zip(whole, later, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_batches_hold_pixels_labels_and_rows_in_order() -> None:
    split = synthetic(INFO, 10).train
    order = permutation(10, 1)
    seen = list(batches(split, order=order, batch_size=4, device=CPU))
    images = torch.cat([b.images for b in seen])
    assert images.dtype == torch.float32 and torch.equal(images, split.images[order].float() / 255)
    assert torch.equal(torch.cat([b.labels for b in seen]), split.labels[order])
    assert torch.equal(torch.cat([b.index for b in seen]), order)


def test_a_selected_split_is_a_view_of_its_rows() -> None:
    split = synthetic(INFO, 10).train
    part = split.select(torch.tensor([7, 2, 5])).select(torch.tensor([2, 0]))
    assert part.images is split.images and list(part.ids) == ["train/5", "train/7"]
    (images,) = part.fetch(torch.arange(2), 8, (), False)
    assert torch.equal(images, split.images[[5, 7]]) and torch.equal(
        part.labels, split.labels[[5, 7]]
    )
    meta = part.to(torch.device("meta"))
    assert meta.images.shape == (2, *INFO.shape) and meta.rows is None


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_stratified_takes_its_share_of_every_stratum(
    sizes: list[int], share: float, seed: int
) -> None:
    strata = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    n = round(share * len(strata))
    rows = stratified(strata, n, seed)
    assert torch.equal(rows, stratified(strata, n, seed))
    assert len(rows.unique()) == n and torch.equal(rows, rows.sort().values)
    for size, taken in zip(
        sizes, torch.bincount(strata[rows], minlength=len(sizes)).tolist(), strict=True
    ):
        assert abs(taken - share * size) <= 1.5


def test_hold_out_splits_the_training_images_once() -> None:
    bundle = dataclasses.replace(synthetic(INFO, 60), validation=None)
    held = hold_out(bundle, 0.25, seed=0)
    assert held.validation is not None and held.info.train_size == len(held.train) == 45
    assert sorted([*held.train.ids, *held.validation.ids]) == sorted(bundle.train.ids)
    assert hold_out(bundle, 0.25, seed=0).validation.ids == held.validation.ids
    assert hold_out(bundle, 0.25, seed=1).validation.ids != held.validation.ids
    assert hold_out(held, 0.5, seed=3) is held and hold_out(bundle, 0.0, seed=0) is bundle
    with pytest.raises(ParadiseError, match="at least 0 and below 1"):
        hold_out(bundle, 1.0, seed=0)
    with pytest.raises(ParadiseError, match="leaves a part empty"):
        hold_out(bundle, 0.001, seed=0)


def test_keep_labels_hides_all_but_n() -> None:
    bundle = synthetic(INFO, 60)
    kept = keep_labels(bundle, 9, seed=0)
    shown = kept.train.labels[:, 0] != -1
    assert shown.sum() == 9 and set(kept.train.labels[shown, 0].tolist()) == {0, 1, 2}
    assert torch.equal(kept.train.labels[shown], bundle.train.labels[shown])
    assert kept.validation is bundle.validation and kept.train.images is bundle.train.images
    assert (keep_labels(kept, 9, seed=4).train.labels == kept.train.labels).all()
    with pytest.raises(ParadiseError, match="9 of 60 training images are labelled"):
        keep_labels(kept, 10, seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((4, 1), 3), "run from 3 to 3, but it has 3 classes"),
        (torch.full((4, 1), -2), "run from -2"),
        (torch.zeros(4, 2, dtype=torch.int64), "1 label column"),
        (torch.zeros(0, 1, dtype=torch.int64), "holds no image"),
    ],
)
def test_a_bundle_refuses_labels_that_do_not_fit(labels: Tensor, message: str) -> None:
    split = MemorySplit(
        torch.zeros(len(labels), 3, 6, 5, dtype=torch.uint8), labels, ["x"] * len(labels)
    )
    with pytest.raises(ParadiseError, match=message):
        DataBundle(INFO, split)


LABELS = torch.zeros(2, 1, dtype=torch.int64)
PIXELS = torch.zeros(2, 3, 6, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "ids", "problem"),
    [
        (PIXELS.long(), LABELS, ["a", "b"], "images are a tensor of int64"),
        (PIXELS.double(), LABELS, ["a", "b"], "images are a tensor of float64"),
        (PIXELS.numpy(), LABELS, ["a", "b"], "images are of type ndarray"),
        (PIXELS.float() + 255, LABELS, ["a", "b"], "images are float32 from 255 to 255"),
        (PIXELS.float() + torch.nan, LABELS, ["a", "b"], "images are float32 from nan to nan"),
        (PIXELS[:1], LABELS, ["a", "b"], "there are 1 images for 2 labels"),
        (PIXELS, LABELS.int(), ["a", "b"], "labels are a tensor of int32"),
        (PIXELS, LABELS.float(), ["a", "b"], "labels are a tensor of float32"),
        (PIXELS, LABELS.numpy(), ["a", "b"], "labels are of type ndarray"),
        (PIXELS, LABELS, [0, 1], "an id is of type int"),
    ],
)
def test_a_bundle_refuses_what_would_train_on_wrong_numbers(
    images: Any, labels: Any, ids: Any, problem: str
) -> None:
    good = MemorySplit(PIXELS.float() + 1, LABELS, ["a", "b"])
    assert DataBundle(INFO, good).splits() == {"train": good}
    with pytest.raises(ParadiseError) as error:
        DataBundle(INFO, good, test=MemorySplit(images, labels, ids))
    told = str(error.value)
    assert told.startswith(f"{INFO.label}, test split: {problem}; a split holds images, a tensor")


def test_values_that_are_no_pictures_may_be_any() -> None:
    values = MemorySplit(PIXELS.float() - 7, LABELS, ["a", "b"])
    bundle = DataBundle(dataclasses.replace(INFO, pictures=False), values)
    (found,) = bundle.train.fetch(torch.arange(2), 2, (), False)
    assert bool((found == -7).all())


@pytest.mark.parametrize("name", ["digits", "gaussian_source"])
def test_a_folder_that_a_data_set_would_not_read_is_refused(name: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits", [f"data={{name: {name}, root: {tmp_path}}}"]).recipe
    for build in (build_info, build_data):
        with pytest.raises(UsageError, match=f"{name} reads no folder: leave data.root, .* out"):
            build(recipe)


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_description_is_known_without_data_and_survives_json(name: str) -> None:
    info = info_of(name)
    assert DataInfo.from_json(info.to_json()) == info
    assert info.preprocessing.shape == info.shape and info.train_size > 0
    bundle = synthetic(info, 4)
    assert bundle.train.labels.shape == (4, len(info.targets)) and bundle.test is not None


def test_a_description_from_elsewhere_is_refused() -> None:
    good = info_of("digits").to_json()
    wrong = [
        ({"label": 3}, "label: Input should be a valid string"),
        ({"shape": [1, 8, 9]}, "images of shape"),
        ({"shape": [1, 8.0, 8]}, "shape.1: Input should be a valid integer"),
        ({"targets": [{"name": "digit", "classes": []}]}, "one has no classes"),
        ({"preprocessing": good["preprocessing"] | {"unknown": 1}}, "unknown: Unexpected"),
        ({"preprocessing": good["preprocessing"] | {"resize": 10**9}}, "every size be 1 to 8,192"),
    ]
    for part, message in wrong:
        with pytest.raises(ParadiseError, match=f"not a description of data: .*{message}"):
            DataInfo.from_json(good | part)
    with pytest.raises(ParadiseError, match="1 or 3"):
        Preprocessing(2, None, (4, 4))
