"""Encoding: the same bytes however it is batched, and every image accounted for."""

import csv
import os
import resource
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.numpy import load_file
from torch.nested import nested_tensor

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.data import decode, list_images
from paradise_cli.inference import reconstruction
from paradise_cli.inference.batches import block_size
from paradise_cli.inference.encoding import Encoded, encode_to_file
from paradise_cli.inference.image_sources import Images
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.inference.reconstruction import reconstruct_to_files

from .tiny_model import CLASSES, LATENT, save_images, save_tiny

COUNT = 70  # more than one block of 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("images") / "photos", COUNT)


def write(model: LoadedModel, images: Images, out: Path, **options: Any) -> Encoded:
    return encode_to_file(model, model.open(images), out, **options)


def index_of(done: Encoded) -> list[dict[str, str]]:
    with done.index.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_the_posterior_means(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    done = write(model, photos, tmp_path / "z.npy")
    z = np.load(done.out)
    files = list_images(photos)
    pixels = torch.stack([torch.from_numpy(decode(f, model.info.preprocessing)) for f in files])
    with torch.no_grad():
        expected = model.model.encode(pixels.float() / 255).mu
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, expected, atol=1e-5)
    assert index_of(done) == [
        {"row": str(i), "path": str(f), "error": ""} for i, f in enumerate(files)
    ]
    assert (done.images, done.rows, done.skipped) == (COUNT, COUNT, [])


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "safetensors"])
@pytest.mark.parametrize("samples", [0, 2])
def test_bytes_do_not_depend_on_run_or_batch(
    model: LoadedModel, photos: Path, tmp_path: Path, suffix: str, samples: int
) -> None:
    files = {
        ahead: write(
            model, photos, tmp_path / f"{ahead}.{suffix}", ahead=ahead, samples=samples
        ).out
        for ahead in (None, 1, 7, 64, 1000)
    }
    again = write(model, photos, tmp_path / f"again.{suffix}", samples=samples).out
    assert len({file.read_bytes() for file in [*files.values(), again]}) == 1


def test_an_image_does_not_depend_on_its_neighbours(model: LoadedModel, photos: Path) -> None:
    everything = model.encode(photos)
    path = everything.ids[66]
    assert np.array_equal(model.encode(path).mean[0], everything.mean[66])


def test_npz_holds_everything(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_text("not an image")
    try:
        done = write(model, photos, tmp_path / "z.npz", samples=2, seed=5)
    finally:
        (photos / "bad.png").unlink()
    with np.load(done.out, allow_pickle=False) as z:
        assert sorted(z) == ["ids", "labels", "log_variance", "mean", "samples"]
        same = model.encode(photos)
        assert np.array_equal(z["mean"], same.mean)
        assert np.array_equal(z["log_variance"], same.log_variance)
        assert z["ids"].tolist() == same.ids == [str(path) for path in list_images(photos)]
        folders = [Path(i).parent.name for i in same.ids]
        assert z["labels"].tolist() == [[CLASSES.index(f) if f in CLASSES else -1] for f in folders]
        assert z["labels"].dtype == np.int64
        assert z["samples"].shape == (COUNT, 2, LATENT)
    with zipfile.ZipFile(done.out) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_every_format_holds_the_same(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    for suffix in ("npz", "safetensors", "parquet"):
        write(model, photos, tmp_path / f"z.{suffix}", samples=2, seed=5)
    with np.load(tmp_path / "z.npz") as z:
        tensors = load_file(tmp_path / "z.safetensors")
        assert sorted(tensors) == ["labels", "log_variance", "mean", "samples"]
        for name, tensor in tensors.items():
            assert np.array_equal(tensor, z[name]) and tensor.dtype == z[name].dtype
        table = parquet.read_table(tmp_path / "z.parquet").to_pydict()
        assert sorted(table) == ["class", "log_variance", "mean", "path", "samples"]
        for name in ("mean", "log_variance", "samples"):
            assert np.array_equal(np.array(table[name], np.float32), z[name])
        assert table["path"] == z["ids"].tolist()
        folders = [Path(path).parent.name for path in table["path"]]
        assert table["class"] == [folder if folder in CLASSES else None for folder in folders]


def test_a_table_of_many_rows_has_few_groups(model: LoadedModel, tmp_path: Path) -> None:
    """Each block would be one, and such a table is slow to read."""
    done = write(model, np.zeros((4200, 12, 12), np.uint8), tmp_path / "z.parquet")
    assert parquet.read_metadata(done.out).num_row_groups == 2
    assert len(parquet.read_table(done.out)) == 4200


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "safetensors"])
def test_features_are_what_the_head_is_given(
    model: LoadedModel, photos: Path, tmp_path: Path, suffix: str
) -> None:
    """mu is linear in them."""
    done = write(model, photos, tmp_path / f"f.{suffix}", features=True)
    if suffix == "npy":
        found = np.load(done.out)
    elif suffix == "parquet":
        found = np.array(parquet.read_table(done.out)["features"].to_pylist(), np.float32)
    else:
        found = (np.load if suffix == "npz" else load_file)(done.out)["features"]
    assert found.shape == (COUNT, model.model.backbone.out_features) == (COUNT, done.dimensions)
    with torch.no_grad():
        mean = model.model.mu(torch.from_numpy(found))
    np.testing.assert_allclose(mean, model.encode(photos).mean, atol=1e-5)
    with pytest.raises(UsageError, match="no distribution to draw from"):
        write(model, photos, tmp_path / f"g.{suffix}", features=True, samples=2)


def test_samples_are_draws_keyed_by_seed_and_row(model: LoadedModel, tmp_path: Path) -> None:
    same = np.full((400, 12, 12), 90, np.uint8)
    found = model.encode(same, samples=50, seed=1)
    assert found.samples is not None
    standard = (found.samples - found.mean[:, None]) / np.exp(found.log_variance / 2)[:, None]
    assert abs(standard.mean()) < 5 / standard.size**0.5
    assert abs(standard.var() - 1) < 5 * (2 / standard.size) ** 0.5
    assert len(np.unique(found.samples[:, 0, 0])) == 400
    few = model.encode(same[:3], samples=50, seed=1)
    assert few.samples is not None and np.array_equal(few.samples, found.samples[:3])
    other = model.encode(same[:3], samples=50, seed=2)
    assert other.samples is not None and not np.array_equal(other.samples, few.samples)
    done = write(model, same[:3], tmp_path / "z.npy", samples=50, seed=1)
    assert np.array_equal(np.load(done.out), few.samples)


def test_a_deterministic_encoder(tmp_path: Path, photos: Path) -> None:
    model = load(save_tiny(tmp_path / "tiny.safetensors", stochastic=False))
    with np.load(write(model, photos, tmp_path / "z.npz").out) as z:
        assert np.isneginf(z["log_variance"]).all()
    with pytest.raises(UsageError, match="deterministic"):
        write(model, photos, tmp_path / "z.npy", samples=1)


def test_unreadable_files_are_skipped_and_listed(model: LoadedModel, tmp_path: Path) -> None:
    folder = save_images(tmp_path / "photos", 9)
    whole = write(model, folder, tmp_path / "whole.npy")
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (folder / "dog" / "zz.png").write_bytes(b"")
    done = write(model, folder, tmp_path / "z.npy")
    assert np.load(done.out).shape == (9, LATENT)
    assert np.array_equal(np.load(done.out), np.load(whole.out))
    assert (done.images, done.rows) == (11, 9)
    assert [path for path, _ in done.skipped] == [
        str(folder / "a.jpg"),
        str(folder / "dog" / "zz.png"),
    ]
    index = index_of(done)
    assert [entry["path"] for entry in index] == [str(path) for path in list_images(folder)]
    assert [entry["row"] for entry in index if entry["error"] == ""] == [
        str(row) for row in range(9)
    ]
    assert {entry["row"] for entry in index if entry["error"]} == {""}
    with pytest.warns(UserWarning, match="2 of 11 images"):
        assert len(model.encode(folder).skipped) == 2


def test_names_that_are_no_utf_8_are_spelled_out_in_a_table(
    model: LoadedModel, tmp_path: Path
) -> None:
    folder = save_images(tmp_path / "photos", 4)
    odd = folder / os.fsdecode(b"owl\xff")
    odd.mkdir()
    (folder / "cat" / "000.png").rename(odd / os.fsdecode(b"\xfe.png"))
    done = write(model, folder, tmp_path / "z.parquet")
    table = parquet.read_table(done.out).to_pydict()
    assert "owl\\udcff" in table["class"]
    assert any(path.endswith("owl\\udcff/\\udcfe.png") for path in table["path"])


def test_nothing_readable_writes_nothing(model: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(ParadiseError, match="no image among its 0 file"):
        write(model, folder, tmp_path / "z.npy")
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(ParadiseError, match="no image among its 1 file"):
        write(model, folder, tmp_path / "z.npy")
    (folder / "a.png").write_text("hello")
    (tmp_path / "z.npy").write_text("precious")
    with pytest.raises(ParadiseError, match=r"no image can be read, of 1 given(.|\n)*a.png"):
        write(model, folder, tmp_path / "z.npy")
    assert (tmp_path / "z.npy").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "z.npy"]


def test_patterns_files_and_lists(model: LoadedModel, photos: Path) -> None:
    cats = model.open(str(photos / "cat" / "*.png")).ids
    assert cats == sorted(str(path) for path in (photos / "cat").iterdir())
    assert model.open(str(photos / "**" / "*.png")).ids == sorted(
        str(p) for p in photos.rglob("*.png")
    )
    assert model.open([cats[3], Path(cats[1])]).ids == [cats[3], cats[1]]
    with pytest.raises(ParadiseError, match="no file matches"):
        model.open(str(photos / "*.tiff"))
    with pytest.raises(ParadiseError, match="no such file or folder"):
        model.open("nowhere.png")
    with pytest.raises(ParadiseError, match="did you mean 'digits'"):
        model.open("digts")
    with pytest.raises(UsageError, match="cannot be mixed"):
        model.open(["digits", cats[0]])
    with pytest.raises(UsageError, match="no images"):
        model.open([])


def test_arrays_of_every_layout_agree(model: LoadedModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12), np.uint8)
    layouts: dict[str, NDArray[Any]] = {
        "grey": pixels,
        "first": pixels[:, None],
        "last": pixels[..., None],
        "floats": (pixels / np.float32(255)),
        "fortran": np.asfortranarray(pixels),
    }
    written = set()
    for name, array in layouts.items():
        np.save(tmp_path / f"{name}.npy", array)
        written.add(write(model, tmp_path / f"{name}.npy", tmp_path / "z.npy").out.read_bytes())
        written.add(write(model, array, tmp_path / "z.npy").out.read_bytes())
    written.add(write(model, torch.from_numpy(pixels), tmp_path / "z.npy").out.read_bytes())
    assert len(written) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        assert np.array_equal(model.open("~/grey.npy").read(0, 9), pixels[:9, None])
    assert model.open(pixels).ids == [str(row) for row in range(COUNT)]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 9, 9), np.uint8), r"shape \[9, 9\] do not fit.*\[N, 12, 12\]"),
        (np.zeros((12, 12), np.uint8), "holds no images"),
        (np.zeros((0, 12, 12), np.uint8), "holds no images"),
        (np.zeros((2, 12, 12), np.int64), "pixels of type int64"),
        (np.full((2, 12, 12), 255.0), r"rows 0 to 1: pixels run from 255 to 255.*divide by 255"),
        (np.full((2, 12, 12), np.nan), "rows 0 to 1: NaN in place of pixels"),
        (np.full((2, 12, 12), np.inf), "infinite values in place of pixels"),
        (np.arange(100 * 144).reshape(100, 12, 12).astype(np.uint8) % 2, "from 0 to 1 of 255"),
    ],
)
def test_arrays_that_do_not_fit(
    model: LoadedModel, tmp_path: Path, array: NDArray[Any], message: str
) -> None:
    np.save(tmp_path / "images.npy", array)
    for images in (array, tmp_path / "images.npy"):
        with pytest.raises(ParadiseError, match=message):
            write(model, images, tmp_path / "z.npy")
    assert not (tmp_path / "z.npy").exists()


@pytest.mark.parametrize("dtype", [">f4", "<f8", np.longdouble, np.float16])
def test_floats_of_every_size_and_byte_order_are_the_same_images(
    model: LoadedModel, tmp_path: Path, dtype: Any
) -> None:
    # Of which each type holds every value.
    pixels = np.arange(4 * 12 * 12).reshape(4, 12, 12) % 256 / np.float64(256)
    wanted = model.encode(pixels.astype(np.float32)).mean
    np.savez(tmp_path / "i.npz", images=pixels.astype(dtype), labels=np.arange(4, dtype=">i8") % 3)
    np.save(tmp_path / "i.npy", pixels.astype(dtype))
    for name in ("i.npz", "i.npy"):
        assert np.array_equal(model.encode(tmp_path / name).mean, wanted)
    assert model.encode(tmp_path / "i.npz").labels[:, 0].tolist() == [0, 1, 2, 0]


# Each of these holds the values exactly.
QUARTERS = (torch.arange(2 * 12 * 12) % 5 / 4).view(2, 12, 12)


@pytest.mark.parametrize(
    "images",
    [
        QUARTERS.bfloat16(),
        QUARTERS.to(torch.float8_e4m3fn),
        QUARTERS.clone().requires_grad_(),
        QUARTERS.to_sparse(),
        QUARTERS.to(torch.complex64).mul(1j).conj().imag.neg(),
        QUARTERS.numpy().astype(">f4"),
    ],
    ids=lambda images: f"{type(images).__name__} {images.dtype}",
)
def test_tensors_that_numpy_refuses_are_the_same_images(model: LoadedModel, images: Any) -> None:
    assert np.array_equal(model.encode(images).mean, model.encode(QUARTERS).mean)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (QUARTERS.to("meta"), "on the meta device it holds no values.*: give a numpy array"),
        (nested_tensor(list(QUARTERS), layout=torch.jagged), "its parts differ in shape"),
        (QUARTERS.to(torch.complex64).conj(), "pixels of type complex64; it reads uint8"),
        (np.ma.masked_less(QUARTERS.numpy(), 0.5), "some of its values are masked"),
        (QUARTERS.numpy().astype(object), "pixels of type object; it reads uint8"),
    ],
)
def test_tensors_without_pixels_are_one_message(
    model: LoadedModel, images: Any, message: str
) -> None:
    for use in (model.encode, model.predict, model.reconstruct):
        with pytest.raises(ParadiseError, match=message):
            use(images)


def test_what_is_no_array_of_images_is_one_message(model: LoadedModel, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.float32(0.5))
    with pytest.raises(ParadiseError, match=r"shape \[\] holds no images"):
        model.open(tmp_path / "one.npy")
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:
        archive.writestr("images", "hello")
    with pytest.raises(ParadiseError, match=r"bytes\.npz: images is no array"):
        model.open(tmp_path / "bytes.npz")


def test_damaged_arrays(model: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((80, 12, 12), np.uint8))
    whole = path.read_bytes()
    source = model.open(path)
    for content in (whole[:-1], whole[:40], b"", b"hello", b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(ParadiseError, match="cannot be read as numpy arrays: damaged") as said:
            model.open(path)
        assert "pickle" not in str(said.value)  # numpy advises to allow it
    path.write_bytes(whole[:-200])
    with pytest.raises(ParadiseError, match="cut short while"):
        encode_to_file(model, source, tmp_path / "z.npy")


def test_data_sets(tmp_path: Path) -> None:
    from paradise_cli.build import build_model
    from paradise_cli.models.weights import save_model
    from paradise_cli.recipe.schema import load_recipe

    from .tiny_model import info_for

    recipe = load_recipe("digits").recipe
    info = info_for(recipe)
    path = tmp_path / "digits.safetensors"
    metadata = {"recipe": recipe.resolved(), "data": info.to_json(), "provenance": {}}
    save_model(path, build_model(recipe, info), metadata)
    model = load(path)
    test, train = model.encode("digits"), model.encode("digits:train")
    held = model.encode("digits:validation")
    # Of 1437 training images a tenth was held out of the training.
    sizes = [len(found.mean) for found in (test, train, held)]
    assert sizes == [360, 1437 - 144, 144]
    assert set(test.labels[:, 0].tolist()) == set(range(10))
    assert len({*test.ids, *train.ids, *held.ids}) == 1797
    with pytest.raises(UsageError, match="did you mean 'train'"):
        model.open("digits:trian")


def rename_classes(photos: Path, **names: str) -> None:
    for old, new in names.items():
        (photos / old).rename(photos / new)


def test_class_folders_that_the_model_does_not_know_are_kept(
    model: LoadedModel, tmp_path: Path
) -> None:
    """CLASSES are cat, dog and newt: of cat/, zebra/ and images beside them, zebra is number 3."""
    folder = save_images(tmp_path / "photos", 9)
    rename_classes(folder, dog="zebra")
    done = write(model, folder, tmp_path / "z.npz")
    expected = {"cat": 0, "zebra": 3, "photos": -1}
    with np.load(done.out, allow_pickle=False) as z:
        assert z["class_names"].tolist() == [*CLASSES, "zebra"]
        folders = [Path(i).parent.name for i in z["ids"].tolist()]
        assert z["labels"].tolist() == [[expected[f]] for f in folders]
        labels = z["labels"]
    found = model.encode(folder)
    assert found.class_names == (*CLASSES, "zebra")
    assert np.array_equal(found.labels, labels)
    (folder / "train").mkdir()
    for name in ("cat", "zebra"):
        (folder / name).rename(folder / "train" / name)
    assert model.encode(folder).class_names == found.class_names


def test_class_folders_go_by_the_names_that_evaluation_goes_by(
    model: LoadedModel, tmp_path: Path
) -> None:
    folder = save_images(tmp_path / "photos", 9)
    rename_classes(folder, cat="CAT", dog="Dog")
    found = model.encode(folder)
    assert found.class_names == tuple(CLASSES)
    numbers = {"CAT": 0, "Dog": 1, "newt": 2, "photos": -1}
    assert found.labels[:, 0].tolist() == [numbers[Path(i).parent.name] for i in found.ids]


def test_a_model_without_classes_keeps_those_of_the_folders(tmp_path: Path) -> None:
    painter = load(save_tiny(tmp_path / "tiny.safetensors", classifier=False))
    folder = save_images(tmp_path / "photos", 9)
    found = painter.encode(folder)
    assert found.labels.shape == (9, 1) and sorted(found.class_names) == ["cat", "dog", "newt"]


def test_a_folder_above_is_no_class(model: LoadedModel, tmp_path: Path) -> None:
    """An image of zebra/ below /.../dog/photos is no dog; that of a folder called dog is one."""
    folder = save_images(tmp_path / "dog" / "photos", 9)
    rename_classes(folder, cat="zebra", dog="lion")
    found = model.encode(folder)
    folders = [Path(i).parent.name for i in found.ids]
    numbers = {"photos": -1, "lion": 3, "zebra": 4}
    assert found.labels[:, 0].tolist() == [numbers[name] for name in folders]
    assert set(model.encode(save_images(tmp_path / "x" / "dog", 1) / "cat").labels[:, 0]) == {0}
    rename_classes(folder, lion="dog")
    assert set(model.encode(folder / "dog").labels[:, 0]) == {1}
    # Of files and patterns it is the same: cat/ is in all their paths.
    shots = save_images(tmp_path / "cat" / "dog" / "shots", 9)
    given: dict[str, Sequence[int]] = {"*.png": [-1], "**/*.png": [-1, 0, 1], "*/*.png": [0, 1]}
    for pattern, labels in given.items():
        assert set(model.open(str(shots / pattern)).labels[:, 0]) == set(labels)
    assert set(model.open(str(tmp_path / "cat" / "d*" / "shots" / "*.png")).labels[:, 0]) == {1}
    one, *_ = shots.glob("*.png")
    assert model.open([one, shots / "cat" / "000.png"]).labels[:, 0].tolist() == [-1, 0]


def test_an_archive_is_encoded_with_its_labels(model: LoadedModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 12), np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([2, 0, 1, -1, 2]))
    found = model.encode(tmp_path / "a.npz")
    assert np.array_equal(found.mean, model.encode(pixels).mean)
    assert found.labels[:, 0].tolist() == [2, 0, 1, -1, 2]
    assert found.class_names == ()
    with pytest.raises(UsageError, match="cannot be mixed"):
        model.open([str(tmp_path / "a.npz"), str(tmp_path / "a.npz")])


@pytest.mark.parametrize("classes", [True, False])
def test_labels_of_an_archive_are_numbers_whatever_the_model_knows(
    model: LoadedModel, tmp_path: Path, classes: bool
) -> None:
    """Of three classes or none: the user's number 7 is neither, and 0 need not be a cat."""
    if not classes:
        model = replace(model, info=replace(model.info, targets=()))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 12), np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([7, -1, 0]))
    for kind in ("parquet", "npz"):
        write(model, tmp_path / "a.npz", tmp_path / f"z.{kind}")
    table = parquet.read_table(tmp_path / "z.parquet").to_pydict()
    assert table["class"] == ["7", None, "0"]
    with np.load(tmp_path / "z.npz") as z:
        assert z["labels"].tolist() == [[7], [-1], [0]]
        # Without that member the numbers would be those of the model's classes.
        assert ("class_names" in z) is classes
        assert not classes or z["class_names"].shape == (0,)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([7, -5, 0]))
    with pytest.raises(ParadiseError, match=r"labels run from -5 to 7: .* or -1 for an image"):
        model.open(tmp_path / "a.npz")


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("suffix", "size"),
    [("npy", 20_000), ("npz", 20_000), ("npz", 40_000), ("parquet", 1_000),
     ("safetensors", 20_000), ("safetensors", 40_000)],
)  # fmt: skip
def test_a_full_disk_leaves_what_was_there(
    model: LoadedModel, tmp_path: Path, suffix: str, size: int
) -> None:
    images = np.zeros((3000, 12, 12), np.uint8)
    out = tmp_path / f"z.{suffix}"
    write(model, images[:5], out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with small_disk(size), pytest.raises(ParadiseError, match=r"cannot write.*untouched") as error:
        write(model, images, out)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_places_that_cannot_be_written(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ParadiseError, match=r"cannot write .*file/z"):
        write(model, photos, tmp_path / "file" / "z.npy")
    with pytest.raises(ParadiseError, match="cannot write"):
        reconstruct_to_files(model, model.open(photos), tmp_path / "file" / "folder")
    with pytest.raises(ParadiseError, match="is a file; name a folder"):
        reconstruct_to_files(model, model.open(photos), tmp_path / "file")
    with pytest.raises(UsageError, match=r"end it in \.npy"):
        write(model, photos, tmp_path / "z.csv")
    assert (tmp_path / "file").read_text() == "precious"


def test_predict_and_reconstruct_from_python(model: LoadedModel, photos: Path) -> None:
    prediction = model.predict(photos)
    assert prediction.probabilities["animal"].shape == (COUNT, 3)
    np.testing.assert_allclose(prediction.probabilities["animal"].sum(1), 1, rtol=1e-5)
    assert prediction.labels() == [CLASSES[i] for i in prediction.probabilities["animal"].argmax(1)]
    assert prediction.labels("animal") == prediction.labels()
    with pytest.raises(UsageError, match=r"no classification head 'nope'; .*: animal$"):
        prediction.labels("nope")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 12, 12), np.uint8)
    found = model.reconstruct(pixels)
    assert np.array_equal(found.originals, pixels / np.float32(255))
    with torch.no_grad():
        mean = model.model.encode(torch.from_numpy(found.originals)).mu
        expected = model.model.decode(mean)["picture"].sigmoid()
    np.testing.assert_allclose(found.pixels["picture"], expected, atol=1e-5)


def test_an_index_never_stands_beside_pictures_of_another_run(
    model: LoadedModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the second picture of a new run, the folder holds the first alone."""
    save, index = reconstruction._save, tmp_path / "index.csv"
    reconstruct_to_files(model, model.open(photos), tmp_path)
    assert index.exists()

    def stop(pixels: Any, path: Path) -> None:
        if path.name.startswith("000001"):
            raise KeyboardInterrupt
        save(pixels, path)

    monkeypatch.setattr(reconstruction, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        reconstruct_to_files(model, model.open(photos), tmp_path)
    assert not index.exists()
    assert [path.name[:7] for path in tmp_path.glob("0*.png")] == ["000000-"]


def test_pictures_of_a_larger_run_go(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    for name in ("mine.png", "20240501-1.png"):
        (tmp_path / name).write_text("the user's own")
    files = sorted((photos / "cat").iterdir())
    for given in (files, files[1:3]):
        reconstruct_to_files(model, model.open(given), tmp_path)
    new = [f"{number:06d}-{file.name}" for number, file in enumerate(files[1:3])]
    others = ["20240501-1.png", "grid.png", "index.csv", "mine.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*new, *others])


def test_threads_are_given_back(model: LoadedModel, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    model.encode(np.zeros((3, 12, 12), np.uint8))
    assert torch.get_num_threads() == before
    bad = np.zeros((5000, 12, 12), np.float32)
    bad[70] = 2
    with pytest.raises(ParadiseError, match="rows 64 to 127"):
        write(model, bad, tmp_path / "z.npy")
    assert torch.get_num_threads() == before
    reconstruct_to_files(model, model.open(bad[71:]), tmp_path / "first.png")
    assert torch.get_num_threads() == before


def test_block_size_depends_on_the_image_alone() -> None:
    sizes = {side: block_size((3, side, side)) for side in (8, 28, 32, 64, 224)}
    assert sizes == {8: 64, 28: 64, 32: 64, 64: 32, 224: 16}
