"""Every family of data sets on a small copy of its files."""

import errno
import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from paradise_cli.build import build_info
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.progress import shown_work
from paradise_cli.data import DATASETS, FolderSplit, MemorySplit, info_of
from paradise_cli.data import cifar as cifar_module
from paradise_cli.data import mnist as mnist_module
from paradise_cli.data.mnist import read_idx
from paradise_cli.data.streaming import decoded, unreadable
from paradise_cli.recipe.schema import load_recipe

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PARADISE_DATA", str(tmp_path / "data"))


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_mnist(folder: Path, zipped: bool = False, joint: str = "-") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        for name, array in ((f"images{joint}idx3", images), (f"labels{joint}idx1", labels)):
            path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return images


def write_images(folder: Path, *names: str, size: tuple[int, int] = (20, 16)) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def test_digits_are_those_of_scikit_learn() -> None:
    data, found = load_digits(), DATASETS["digits"](None)
    assert found.test is not None
    for part in (found.train, found.test):
        rows = [int(name.removeprefix("digits/")) for name in part.ids]
        images = torch.cat(list(part.fetch(torch.arange(len(part)), 500, (), False)))
        assert np.array_equal(images[:, 0].double().mul(16 / 255).round(), data.images[rows])
        assert np.array_equal(part.labels[:, 0], data.target[rows])


def test_digits_are_split_by_seed_in_proportion() -> None:
    bundle = DATASETS["digits"](None)
    assert (
        (len(bundle.train), len(bundle.test)) == (1437, 360) == (info_of("digits").train_size, 360)
    )
    assert not set(bundle.train.ids) & set(bundle.test.ids)
    assert bundle.train.images.max() == 255 and bundle.info == info_of("digits")
    share = torch.bincount(bundle.test.labels[:, 0]) / (
        torch.bincount(bundle.train.labels[:, 0]) + torch.bincount(bundle.test.labels[:, 0])
    )
    assert (share - 0.2).abs().max() < 0.01
    assert DATASETS["digits"](None, split_seed=1).test.ids != bundle.test.ids


@pytest.mark.parametrize("place", ["", "raw", "{}/raw"])
@pytest.mark.parametrize(
    ("name", "theirs"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_found_where_people_keep_them(
    tmp_path: Path, name: str, theirs: str, place: str, zipped: bool
) -> None:
    images = write_mnist(tmp_path / place.format(theirs), zipped)
    bundle = DATASETS[name](tmp_path)
    assert np.array_equal(bundle.train.images[:, 0].numpy(), images)
    assert bundle.test.labels[:, 0].tolist() == [i % 10 for i in range(12)]


def test_idx_files_may_have_a_dot_in_their_names(tmp_path: Path) -> None:
    images = write_mnist(tmp_path, joint=".")
    assert np.array_equal(DATASETS["mnist"](tmp_path).train.images[:, 0].numpy(), images)


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    whole = idx(np.zeros((2, 3), np.uint8))
    zipped = gzip.compress(whole)
    for name, data in {
        "cut": whole[:-1],
        "header": whole[:6],
        "text": b"hello",
        "none": b"",
        "cut.gz": zipped[:-9],
        "text.gz": b"hello",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ParadiseError, match=f"{name}.*fetch the file again"):
            read_idx(tmp_path / name)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_offline_the_error_names_each_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    def offline(*args: object, **kwargs: object) -> None:
        print("Downloading")
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    monkeypatch.setattr(torchvision.datasets.utils, "download_and_extract_archive", offline)
    module = mnist_module if name == "mnist" else cifar_module
    files = (
        [f for pair in module._FILES.values() for f in pair]
        if name == "mnist"
        else module._TRAIN + module._TEST
    )
    for root, message in ((None, "no network"), (tmp_path / "empty", "put there")):
        with pytest.raises(ParadiseError, match=message) as caught:
            DATASETS[name](root)
        assert all(file in str(caught.value) for file in files)
        assert str(root or tmp_path / "data" / name) in str(caught.value)


def test_cifar_reads_the_binary_version(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = RNG.integers(0, 256, (6, 4, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, record in zip(names, records, strict=True):
        record.tofile(folder / name)
    bundle = DATASETS["cifar10"](tmp_path)
    assert bundle.train.images.shape == (20, 3, 32, 32) and len(bundle.test) == 4
    assert bundle.train.images[5, 1, 2, 3] == records[1, 1, 1 + 1024 + 2 * 32 + 3]
    assert bundle.test.labels[:, 0].tolist() == records[5, :, 0].tolist()
    records[5].ravel()[:-1].tofile(folder / "test_batch.bin")
    with pytest.raises(ParadiseError, match=r"test_batch\.bin.*cut"):
        DATASETS["cifar10"](tmp_path)


def write_celeba(folder: Path, partition: bool = True) -> None:
    names = [f"{i:06}.png" for i in (1, 2, 3, 162_771, 182_638)]
    write_images(folder / "img_align_celeba", *names, size=(178, 218))
    rows = "\n".join(f"{name}  {1 if i % 2 else -1} -1" for i, name in enumerate(names))
    (folder / "list_attr_celeba.txt").write_text(f"5\nSmiling Young\n{rows}\n")
    if partition:
        parts = zip(names, (0, 0, 1, 1, 2), strict=True)
        (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in parts))


def as_kaggle_has_it(folder: Path) -> None:
    """A folder in a folder, and tables of commas without a count."""
    inner = folder / "img_align_celeba" / "img_align_celeba"
    inner.mkdir()
    for image in (folder / "img_align_celeba").glob("*.png"):
        image.rename(inner / image.name)
    for table in folder.glob("*.txt"):
        lines = table.read_text().splitlines()
        attributes = table.stem == "list_attr_celeba"
        header = f"image_id {lines[1]}" if attributes else "image_id partition"
        rows = [header, *(lines[2:] if attributes else lines)]
        csv = "".join(f"{','.join(row.split())}\n" for row in rows)
        table.with_suffix(".csv").write_text(csv)
        table.unlink()


def test_celeba_is_read_as_kaggle_has_it(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    official = DATASETS["celeba"](tmp_path)
    as_kaggle_has_it(tmp_path)
    found = DATASETS["celeba"](tmp_path)
    assert found.info == official.info
    for name, split in official.splits().items():
        assert torch.equal(found.splits()[name].images, split.images)
        assert torch.equal(found.splits()[name].labels, split.labels)


@pytest.mark.parametrize(("partition", "sizes"), [(True, (2, 2, 1)), (False, (3, 1, 1))])
def test_celeba_follows_the_official_split(
    tmp_path: Path, partition: bool, sizes: tuple[int, int, int]
) -> None:
    write_celeba(tmp_path, partition)
    bundle = DATASETS["celeba"](tmp_path, size=32)
    assert (len(bundle.train), len(bundle.validation), len(bundle.test)) == sizes
    assert bundle.info == info_of("celeba", tmp_path, size=32) and bundle.info.shape == (3, 32, 32)
    assert bundle.info.own_validation and info_of("celeba").own_validation
    assert [t.name for t in bundle.info.targets] == ["Smiling", "Young"]
    assert bundle.train.labels[:2].tolist() == [[0, 0], [1, 0]]
    assert bundle.train.images.shape[1:] == (3, 32, 32)


def test_celeba_names_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ParadiseError, match="img_align_celeba is missing"):
        DATASETS["celeba"](None)
    write_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000002.png").unlink()
    with pytest.raises(ParadiseError, match=r"1 of the 5 images.*000002\.png"):
        DATASETS["celeba"](tmp_path)
    text = (tmp_path / "list_attr_celeba.txt").read_text()
    (tmp_path / "list_attr_celeba.txt").write_text(text[:-25])
    with pytest.raises(ParadiseError, match=r"list_attr_celeba\.txt"):
        DATASETS["celeba"](tmp_path)


def test_a_folder_with_splits_and_classes(tmp_path: Path) -> None:
    training = ("train/b/1.png", "train/a/1.png", "train/a/x/2.png", "train/0.png")
    write_images(tmp_path, *training, "val/a/1.jpg", "test/b/1.png", "test/b/2.png")
    bundle = DATASETS["image_folder"](tmp_path, size=8, label="mine")
    assert list(bundle.train.ids) == [
        "train/0.png",
        "train/a/1.png",
        "train/a/x/2.png",
        "train/b/1.png",
    ]
    assert bundle.train.labels[:, 0].tolist() == [-1, 0, 0, 1]
    assert bundle.validation.labels.tolist() == [[0]] and bundle.test.labels.tolist() == [[1], [1]]
    assert bundle.info.targets[0].classes == ("a", "b") and bundle.info.label == "mine"
    assert info_of("image_folder", tmp_path, size=8, label="mine") == bundle.info
    streamed = DATASETS["image_folder"](tmp_path, size=8, memory_gib=0.0)
    assert isinstance(streamed.train, FolderSplit) and isinstance(bundle.train, MemorySplit)
    (images,) = streamed.train.fetch(torch.arange(4), 8, (), True)
    assert torch.equal(images, bundle.train.images)
    named = DATASETS["image_folder"](tmp_path, size=8, classes=["b", "a"])
    assert named.train.labels[:, 0].tolist() == [-1, 1, 1, 0]


@pytest.mark.parametrize(("shape", "shown"), [((2, 8), "2 x 8 x 8"), ((3, 9000), "3 x 9000 x")])
def test_pictures_that_there_are_not_are_refused(shape: tuple[int, int], shown: str) -> None:
    with pytest.raises(UsageError, match=f"images of {shown}.*1 or 3 channels"):
        info_of("image_folder", None, channels=shape[0], size=shape[1])


@pytest.mark.parametrize("names", [("2.png", "1.png"), ("album/1.png", "album/2.png")])
def test_a_folder_without_classes_has_no_target(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tmp_path / "photos"
    write_images(root, *names)
    bundle = DATASETS["image_folder"](root, size=8, channels=1)
    assert bundle.info.targets == () and bundle.train.labels.shape == (2, 0)
    assert bundle.info.label == "photos" and bundle.info.shape == (1, 8, 8)
    assert bundle.validation is None and bundle.test is None


def test_folders_whose_classes_disagree_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "train/a/1.png", "train/b/1.png", "test/c/1.png")
    with pytest.raises(ParadiseError, match=r"\['c'\] do not exist in"):
        DATASETS["image_folder"](tmp_path)
    with pytest.raises(ParadiseError, match="names 3 classes, the folder has 2"):
        DATASETS["image_folder"](tmp_path, classes=["a", "b", "c"])
    with pytest.raises(ParadiseError, match="no such folder"):
        DATASETS["image_folder"](tmp_path / "nowhere")
    with pytest.raises(ParadiseError, match=r"data\.root"):
        DATASETS["imagenet"](None)


@pytest.mark.parametrize(
    ("names", "classes", "sizes"),
    [
        # However people write the splits.
        ("train/a train/b valid/a test/b", "ab", [2, 1, 1]),
        ("Train/a Train/b Validation/b TEST/a", "ab", [2, 1, 1]),
        ("training/a training/b testing/a", "ab", [2, 1]),
        ("training_set/a training_set/b Val-Data/a TestImages/b", "ab", [2, 1, 1]),
        ("train val", "", [1, 1]),
        # A class may be called as a split is.
        ("bus car train", ["bus", "car", "train"], [3]),
        ("bus test", ["bus", "test"], [2]),
        ("setter test_bench trainer", ["setter", "test_bench", "trainer"], [3]),
        # One folder tells nothing apart, whatever it is called.
        ("train", "", [1]),
        ("val", "", [1]),
    ],
)
def test_splits_are_known_by_their_names_and_their_company(
    tmp_path: Path, names: str, classes: Sequence[str], sizes: list[int]
) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"{name}/1.png" for name in names.split()))
    bundle = DATASETS["image_folder"](root, size=8)
    found = [each for target in bundle.info.targets for each in target.classes]
    assert found == [*classes]
    assert [len(split) for split in bundle.splits().values()] == sizes
    assert info_of("image_folder", root, size=8) == bundle.info
    assert not bundle.notes


def test_what_lies_beside_splits_is_said(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, "train/a/1.png", "train/b/1.png", "car/1.png", ".trash/1.png")
    bundle = DATASETS["image_folder"](root, size=8)
    assert len(bundle.train) == 2
    assert bundle.notes == ("photos is split into train/; left out is what lies beside: car/",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("val/a test/a", r"holds test/, val/, which are splits and no classes.*data\.root=.*test"),
        ("Test/a/b", "which are splits and no classes"),
        ("train/a val/a valid/a", "val/, valid/, which all mean the validation split"),
        ("a/1 b\udcff/1", r"class folder b\\udcff has a name that is not UTF-8: rename it"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(tmp_path: Path, names: str, message: str) -> None:
    write_images(tmp_path, *(f"{name}/1.png" for name in names.split()))
    with pytest.raises(ParadiseError, match=message):
        DATASETS["image_folder"](tmp_path)


def test_imagenet_that_is_not_there_has_its_known_size() -> None:
    """A dry run reckons by it: 1,281,167 training images of 1,000 classes (ILSVRC 2012)."""
    info = build_info(load_recipe("imagenet_rn34_pm").recipe)
    assert (info.train_size, len(info.targets[0].classes)) == (1_281_167, 1000)


def test_imagenet_reports_on_val_and_crops_training_images(tmp_path: Path) -> None:
    write_images(tmp_path, "train/n1/1.png", "train/n2/1.png", "val/n1/1.png")
    bundle = DATASETS["imagenet"](tmp_path, size=16, short_side=18)
    assert bundle.validation is None and list(bundle.test.ids) == ["val/n1/1.png"]
    assert bundle.train.random_crop and not bundle.test.random_crop
    (images,) = bundle.train.fetch(torch.arange(2), 2, (0,), True)
    assert images.shape == (2, 3, 16, 16)
    assert not DATASETS["imagenet"](tmp_path, train_crop="centre").train.random_crop
    with pytest.raises(ParadiseError, match="must hold train/ and val/"):
        DATASETS["imagenet"](tmp_path / "train")


def test_decoded_images_are_kept_until_a_file_changes(tmp_path: Path) -> None:
    root, cache = tmp_path / "photos", tmp_path / "cache" / "decoded"
    write_images(root, "1.png", "2.png", "3.png")
    seen: list[tuple[int, int]] = []
    token = shown_work.set(lambda what, done, total: seen.append((done, total)))
    info = info_of("image_folder", root, size=8)
    ids = ["1.png", "2.png", "3.png"]
    first = decoded(root, ids, info.preprocessing)
    first[0] = 0  # copy-on-write: the file keeps its pixels
    again = decoded(root, ids, info.preprocessing)
    assert seen == [(3, 3)] and again[0].any() and len(list(cache.iterdir())) == 1
    write_images(root, "1.png", size=(24, 30))
    changed = decoded(root, ids, info.preprocessing)
    assert (
        len(seen) == 2
        and not torch.equal(changed[0], again[0])
        and torch.equal(changed[1:], again[1:])
    )
    shown_work.reset(token)


def test_a_file_replaced_by_one_of_its_size_and_time_is_decoded_again(tmp_path: Path) -> None:
    root, info = tmp_path / "photos", info_of("image_folder", None, size=8)
    for name in ("photos/1.bmp", "other/1.bmp"):
        write_images(tmp_path, name)
        os.utime(tmp_path / name, (0, 0))  # as archives that are made reproducibly have it
    first = decoded(root, ["1.bmp"], info.preprocessing).clone()
    os.replace(tmp_path / "other/1.bmp", root / "1.bmp")
    assert not torch.equal(decoded(root, ["1.bmp"], info.preprocessing), first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: content[:-33],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"x" + content[1:],
    ],
    ids=["empty", "in its header", "cut", "a bit", "no array"],
)
def test_what_was_damaged_in_the_cache_is_decoded_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    root, info = tmp_path / "photos", info_of("image_folder", None, size=8)
    write_images(root, "1.png")
    first = decoded(root, ["1.png"], info.preprocessing).clone()
    (kept,) = (tmp_path / "cache" / "decoded").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert torch.equal(decoded(root, ["1.png"], info.preprocessing), first)


@pytest.mark.parametrize("text", ["", "[", "[1]", '{"1.png": 3}'])
def test_a_damaged_list_of_unreadable_images_is_made_again(tmp_path: Path, text: str) -> None:
    root, info = tmp_path / "photos", info_of("image_folder", None, size=8)
    write_images(root, "1.png")
    (root / "2.png").write_bytes(b"")
    found = unreadable(root, ["1.png", "2.png"], info.preprocessing)
    assert found == {"2.png": "the file is empty"}
    (kept,) = (tmp_path / "cache" / "decoded").iterdir()
    kept.write_text(text)
    assert unreadable(root, ["1.png", "2.png"], info.preprocessing) == found


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "?"), MemoryError()]
)
def test_what_the_system_could_not_read_is_tried_anew_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    root, how = tmp_path / "photos", info_of("image_folder", None, size=8).preprocessing
    names = ["1.png", "2.png", "3.png", "4.png"]
    write_images(root, *names)
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:60])
    (root / "3.png").write_bytes(b"hello")
    tried, read = list[str](), Path.read_bytes

    def reading(path: Path) -> bytes:
        tried.append(path.name)
        if failing and path.name == "1.png":
            raise error
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    failing = True
    for expected in (names, ["1.png"]):
        tried.clear()
        assert sorted(unreadable(root, names, how)) == ["1.png", "2.png", "3.png"]
        assert sorted(tried) == expected
    failing = False
    for expected in (["1.png"], []):
        tried.clear()
        assert sorted(unreadable(root, names, how)) == ["2.png", "3.png"]
        assert tried == expected


def test_unreadable_images_are_named_together_and_nothing_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, "1.png", "2.png", "3.png")
    (root / "1.png").write_bytes(b"")
    (root / "3.png").write_text("hello")
    with pytest.raises(
        ParadiseError, match=r"2 of 3 images(.|\n)*1\.png.*empty(.|\n)*3\.png.*not an image"
    ):
        DATASETS["image_folder"](root, size=8)
    assert list((tmp_path / "cache").rglob("*.*")) == []


def test_a_full_disk_while_decoding_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numpy.lib import format as npy

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    write_images(tmp_path / "photos", "1.png")
    monkeypatch.setattr(npy, "write_array_header_1_0", full)
    with pytest.raises(ParadiseError, match="No space left"):
        DATASETS["image_folder"](tmp_path / "photos")
    assert list((tmp_path / "cache").rglob("*.*")) == []


@pytest.mark.parametrize("memory_gib", [4.0, 0.0])
def test_unreadable_images_may_be_skipped_and_are_said(tmp_path: Path, memory_gib: float) -> None:
    root, seen = tmp_path / "photos", list[int]()
    write_images(root, "train/a/1.png", "train/b/1.png", "train/b/2.png", "test/b/1.png")
    for name, content in (("train/a/0.png", b""), ("train/b/3.png", b"hello")):
        (root / name).write_bytes(content)
    (root / "train" / "b" / "4.png").symlink_to(root / "nowhere.png")
    given = {"size": 8, "memory_gib": memory_gib, "skip_unreadable": True}
    token = shown_work.set(lambda what, done, total: seen.append(total))
    bundle = DATASETS["image_folder"](root, **given)
    assert list(bundle.train.ids) == ["train/a/1.png", "train/b/1.png", "train/b/2.png"]
    assert bundle.train.labels[:, 0].tolist() == [0, 1, 1]
    assert (bundle.info.train_size, len(bundle.test)) == (3, 1)
    (note,) = bundle.notes
    assert note.startswith("3 of 7 images cannot be read and are left out: ")
    assert "train/a/0.png: the file is empty" in note and "b/3.png: not an image" in note
    (images,) = bundle.train.fetch(torch.arange(3), 8, (), False)
    assert images.shape == (3, 3, 8, 8)
    tried = seen.copy()
    assert list(DATASETS["image_folder"](root, **given).train.ids) == list(bundle.train.ids)
    assert seen == tried  # each file is tried once
    write_images(root, "train/b/3.png")
    assert len(DATASETS["image_folder"](root, **given).train) == 4  # a mended one is seen
    shown_work.reset(token)


def test_a_class_of_unreadable_images_keeps_its_number(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, "b/1.png", "c/1.png")
    (root / "a").mkdir()
    (root / "a" / "1.png").write_bytes(b"")
    bundle = DATASETS["image_folder"](root, size=8, skip_unreadable=True)
    assert bundle.info.targets[0].classes == ("a", "b", "c")
    assert bundle.train.labels[:, 0].tolist() == [1, 2]
    assert "'a' (0)" in bundle.notes[1]
    for name in ("b/1.png", "c/1.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(ParadiseError, match="none of the 3 images can be read"):
        DATASETS["image_folder"](root, size=8, skip_unreadable=True)


def test_whole_folders_are_as_before_when_nothing_is_skipped(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, "a/1.png", "b/1.png")
    with_option, without = (
        DATASETS["image_folder"](root, size=8, skip_unreadable=skip) for skip in (True, False)
    )
    assert torch.equal(with_option.train.images, without.train.images)
    assert with_option.info == without.info and with_option.notes == without.notes == ()
