"""Files of every kind, decoded to the pixels Pillow would give."""

import contextlib
import glob
import io
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.data import (
    Preprocessing,
    UnreadableImage,
    decode,
    header,
    image_ids,
    list_images,
    matching,
    stream,
)
from paradise_cli.data import images as images_module
from paradise_cli.data.listing import LARGEST_FILE
from paradise_cli.data.streaming import FolderSplit

WHOLE = Preprocessing(3, None, (12, 16))
GREY = Preprocessing(1, None, (12, 16))


def photo(height: int = 12, width: int = 16, channels: int = 3) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    image = Image.fromarray(small.squeeze())
    return image.resize((width, height), Image.Resampling.BICUBIC)


def chw(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "tga"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_lossless_files_keep_their_pixels(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"a.{suffix}"
    photo().convert(mode).save(path)
    assert np.array_equal(decode(path, WHOLE), chw(photo().convert(mode).convert("RGB")))
    assert np.array_equal(decode(path, GREY), chw(photo().convert("L")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}]
)
def test_jpegs_decode_as_pillow_decodes_them(tmp_path: Path, mode: str, options: dict) -> None:
    path = tmp_path / "a.jpg"
    photo(37, 51).convert(mode).save(path, **options)
    whole = Preprocessing(3, None, (37, 51))
    with Image.open(path) as image:
        assert np.array_equal(decode(path, whole), chw(image.convert("RGB")))
        grey = chw(image.convert("RGB").convert("L"))
    assert np.array_equal(decode(path, Preprocessing(1, None, (37, 51))), grey)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, turn: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = turn
    photo(16, 16).crop((0, 0, 16, 12)).save(
        path, exif=exif, **({"quality": 95} if suffix == "jpg" else {})
    )
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    # What each value means, as the side where the stored first row and column are to be shown.
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[turn]
    if suffix == "tiff":  # Pillow turns a TIFF as it loads it
        upright = stored
    got = decode(path, Preprocessing(3, None, upright.shape[:2]))
    assert np.array_equal(got, upright.transpose(2, 0, 1))
    assert got.shape[1:] == ((12, 16) if turn < 5 else (16, 12))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled_by_rounding(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 12 * 16).astype(np.uint16).reshape(12, 16)
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 16 12 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(decode(path, GREY)[0], expected)
    assert np.array_equal(decode(path, WHOLE), np.stack([expected] * 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (16, 12), (0, 0, 0, 0))
    image.paste((40, 40, 40, 255), (0, 0, 8, 12))
    path = tmp_path / "a.png"
    image.quantize(8).save(path) if mode == "P" else image.convert(mode).save(path)
    got = decode(path, WHOLE)
    assert (got[:, :, :8] == 40).all() and (got[:, :, 8:] == 255).all()


def test_the_grey_of_lab_is_that_of_its_colours(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(values, "LAB").save(tmp_path / "a.tif")
    colours = decode(tmp_path / "a.tif", WHOLE).astype(float)
    grey = np.tensordot([0.299, 0.587, 0.114], colours, 1)
    assert np.abs(decode(tmp_path / "a.tif", GREY)[0] - grey).max() <= 1 < np.ptp(grey)


def test_the_transparent_grey_of_sixteen_bits_lies_on_white(tmp_path: Path) -> None:
    """Of two greys the darker is transparent, and the other 257 * 40."""
    values = np.full((12, 16), 257 * 40, np.uint16)
    values[:, 8:] = 257 * 20
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    content = b"tRNS" + (257 * 20).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    before, data = buffer.getvalue().split(b"IDAT", 1)
    (tmp_path / "a.png").write_bytes(before[:-4] + chunk + before[-4:] + b"IDAT" + data)
    got = decode(tmp_path / "a.png", GREY)
    assert (got[..., :8] == 40).all() and (got[..., 8:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "P", "L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("how", [GREY, WHOLE])
def test_bands_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, how: Preprocessing
) -> None:
    image = photo(channels=4)
    (image.convert("RGB") if mode == "P" else image).convert(mode).save(tmp_path / "a.png")
    whole = decode(tmp_path / "a.png", how)
    monkeypatch.setattr(images_module, "_BAND", 16 * 5)  # rows 0 to 4, 5 to 9, and two more
    assert np.array_equal(decode(tmp_path / "a.png", how), whole)


@pytest.mark.parametrize(("largest", "together"), [(12 * 16, True), (12 * 16 - 1, False)])
def test_large_images_are_in_memory_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, together: bool
) -> None:
    monkeypatch.setattr(images_module, "_LARGE", largest)
    both, cut = threading.Barrier(2), images_module._cut

    def meeting(*arguments: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=10 if together else 0.2)
        return cut(*arguments)

    monkeypatch.setattr(images_module, "_cut", meeting)
    photo().save(tmp_path / "a.jpg")
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: decode(tmp_path / "a.jpg", WHOLE), range(2))
    assert np.array_equal(one, other) and both.broken is not together


def test_palette_and_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 12), colour).quantize(4) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(tmp_path / "a.gif", WHOLE)[:, 0, 0], [255, 0, 0])
    Image.new("1", (16, 12), 1).save(tmp_path / "b.png")
    assert (decode(tmp_path / "b.png", WHOLE) == 255).all()


def damaged(kind: str, path: Path) -> None:
    buffer = io.BytesIO()
    suffix = path.suffix[1:].replace("jpg", "jpeg")
    photo(64, 64).save(buffer, suffix)
    data = buffer.getvalue()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "text": b"hello", "head": data[:20]}[kind]
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "gif", "bmp"])
@pytest.mark.parametrize("kind", ["empty", "cut", "text", "head"])
def test_damaged_files_are_named(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"bad.{suffix}"
    damaged(kind, path)
    with pytest.raises(UnreadableImage, match=r"bad\.") as caught:
        decode(path, WHOLE)
    assert caught.value.path == path and caught.value.reason


def test_pixels_without_agreed_range_and_missing_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((12, 16), np.float32)).save(tmp_path / "f.tiff")
    Image.fromarray(np.full((12, 16), 70_000, np.int32)).save(tmp_path / "i.tiff")
    # Of 8 bits by their values, and yet nobody knows.
    Image.fromarray(np.full((12, 16), 255, np.int32)).save(tmp_path / "small.tiff")
    for name, reason in {
        "f.tiff": "floating",
        "i.tiff": "32-bit",
        "small.tiff": "32-bit",
        "none.png": "No such file",
    }.items():
        with pytest.raises(UnreadableImage, match=reason):
            decode(tmp_path / name, WHOLE)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_beyond_the_safe_size_is_named(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(40, 40).save(tmp_path / f"a.{suffix}")
    for limit in (1000, 400):  # beyond twice the limit Pillow refuses by itself
        monkeypatch.setattr(images_module.Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnreadableImage, match=f"more than the {limit:,} pixels that are safe"):
            decode(tmp_path / f"a.{suffix}", WHOLE)


def test_a_sliver_that_would_grow_beyond_the_safe_size_is_named(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="safe to open"):
        decode(tmp_path / "a.png", Preprocessing(3, 64, (64, 64)))


@pytest.mark.parametrize(
    ("height", "width"), [(75, 100), (100, 75), (33, 90), (40, 40), (500, 375)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_bilinear_but_for_ties_at_5_to_4(
    tmp_path: Path, height: int, width: int, channels: int
) -> None:
    path = tmp_path / "a.png"
    photo(height, width).save(path)
    resized = (32, int(32 * width / height)) if height <= width else (int(32 * height / width), 32)
    image = photo(height, width).convert("L" if channels == 1 else "RGB")
    image = image.resize(resized[::-1], Image.Resampling.BILINEAR)
    top, left = round((resized[0] - 32) / 2), round((resized[1] - 32) / 2)
    expected = chw(image)[:, top : top + 32, left : left + 32]
    got = decode(path, Preprocessing(channels, 32, (32, 32)))
    difference = np.abs(got.astype(int) - expected)
    assert difference.max() <= 1 or (
        height == 40 and difference.max() <= 2 and (difference > 1).mean() < 1e-3
    )


def test_pre_crop_comes_first_where_the_image_is_large_enough(tmp_path: Path) -> None:
    image = Image.new("RGB", (178, 218), "black")
    image.paste((200, 100, 50), (19, 39, 159, 179))
    image.save(tmp_path / "a.png")
    celeba = Preprocessing(3, 64, (64, 64), pre_crop=140)
    assert (decode(tmp_path / "a.png", celeba) == np.array([200, 100, 50])[:, None, None]).all()
    photo(60, 60).save(tmp_path / "b.png")
    assert np.array_equal(
        decode(tmp_path / "b.png", celeba),
        decode(tmp_path / "b.png", Preprocessing(3, 64, (64, 64))),
    )


def test_a_small_image_grows_to_the_crop(tmp_path: Path) -> None:
    photo(5, 9).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", Preprocessing(3, None, (12, 12))).shape == (3, 12, 12)
    assert decode(tmp_path / "a.png", Preprocessing(3, 8, (16, 12))).shape == (3, 16, 12)


def test_random_crops_follow_their_generator(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo(50, 70).save(path)
    preprocessing = Preprocessing(3, 32, (24, 24))
    crops = [decode(path, preprocessing, generator(1, i)) for i in range(8)]
    assert len({c.tobytes() for c in crops}) == 8 and all(c.shape == (3, 24, 24) for c in crops)
    assert np.array_equal(crops[3], decode(path, preprocessing, generator(1, 3)))


def test_random_parts_have_the_stated_area_and_aspect() -> None:
    pixels = np.zeros((100, 140, 3), np.uint8)
    shapes = np.array([images_module._random_part(pixels, generator(i)).shape for i in range(300)])
    area, aspect = shapes[:, 0] * shapes[:, 1] / 14_000, shapes[:, 1] / shapes[:, 0]
    assert (
        area.min() > 0.07
        and area.max() > 0.9
        and 0.72 < aspect.min() < 0.8 < 1.25 < aspect.max() < 1.38
    )
    sliver = images_module._random_part(np.zeros((2, 300, 3), np.uint8), generator(0))
    assert sliver.shape == (2, 3, 3)


def test_images_are_listed_in_order_and_other_files_left(tmp_path: Path) -> None:
    left = ["notes.txt", ".hidden.png", ".cache/x.png", "b/@eaDir/1.jpeg/M.png", "__MACOSX/a.jpg"]
    for name in ("b/2.PNG", "a.jpg", "b/1.jpeg", *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == [
        "a.jpg",
        "b/1.jpeg",
        "b/2.PNG",
    ]


@pytest.mark.parametrize(
    "pattern", ["**/*.png", "*/**/*.png", "a/**", "**/b/*", "a/*/*.png", "*.png", "**/[12].png"]
)
def test_patterns_match_what_glob_matches_and_end(tmp_path: Path, pattern: str) -> None:
    for name in ("1.png", "a/2.png", "a/b/3.png", "a/b/c/1.png", ".h/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    whole = str(tmp_path / pattern)
    expected = [p for p in glob.glob(whole, recursive=True) if Path(p).is_file()]
    assert [str(p) for p in matching(whole)] == sorted(expected)
    (tmp_path / "a" / "b" / "back").symlink_to(tmp_path)
    assert set(map(str, matching(whole))) >= set(expected)


def test_a_folder_that_cannot_be_read_is_an_image_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name in ("b", "whole"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert image_ids(tmp_path) == ["a/1.png", "b/"]
    with pytest.raises(UnreadableImage, match="a folder that cannot be read"):
        decode(tmp_path / "b/", WHOLE)
    (tmp_path / "whole").mkdir()
    with pytest.raises(ParadiseError, match="whole: Permission denied"):
        image_ids(tmp_path / "whole")


def test_pipes_and_huge_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)  # a hole, which takes no room
    for name, reason in {"pipe.jpg": "no regular file", "huge.jpg": "536,870,913 bytes"}.items():
        for read in (lambda path: decode(path, WHOLE), header):
            with pytest.raises(UnreadableImage, match=reason):
                read(tmp_path / name)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ParadiseError, match=r"no image among its 1 file; .*\.png"):
        list_images(tmp_path)
    (tmp_path / "b.tar").touch()
    with pytest.raises(ParadiseError, match=r"its 2 files; .* are the data set tar_shards"):
        list_images(tmp_path)
    for hidden in (".a.png", ".cache/x.png"):
        folder = tmp_path / f"of{hidden.replace('/', '')}"
        (folder / hidden).parent.mkdir(parents=True)
        (folder / hidden).write_bytes(b"x")
        with pytest.raises(ParadiseError, match="no image among its 0 files, hidden ones left out"):
            list_images(folder)
    with pytest.raises(ParadiseError, match="no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ParadiseError, match="is a file"):
        list_images(tmp_path / "a.txt")


def test_stream_keeps_order_names_failures_and_bounds_its_window() -> None:
    taken = []

    def items() -> object:
        for i in range(50):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        if i % 7 == 3:
            raise UnreadableImage(Path(str(i)), "no")
        return i * i

    for count, result in enumerate(stream(items(), work, workers=3, window=5)):
        assert isinstance(result, UnreadableImage) if count % 7 == 3 else result == count**2
        assert len(taken) <= count + 6
    assert len(taken) == 50


def test_stream_passes_other_errors_on_and_can_be_left() -> None:
    def fails(i: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream([1], fails))
    running = stream(range(1000), lambda i: i, window=4)
    assert next(running) == 0
    running.close()


def test_a_streamed_split_gives_the_same_pixels_whatever_its_workers(tmp_path: Path) -> None:
    for i in range(5):
        photo(20 + i, 24).rotate(30 * i).save(tmp_path / f"{i}.png")
    ids = [f"{i}.png" for i in range(5)]
    order = torch.tensor([3, 1, 4, 0, 2])
    preprocessing = Preprocessing(3, 16, (16, 16))

    def pixels(workers: int, rows: torch.Tensor, train: bool, random_crop: bool) -> torch.Tensor:
        labels = torch.empty(5, 0, dtype=torch.int64)
        split = FolderSplit(tmp_path, ids, labels, preprocessing, random_crop, workers)
        return torch.cat(list(split.fetch(rows, 2, (7, 1), train)))

    drawn = pixels(1, order, train=True, random_crop=True)
    assert torch.equal(drawn, pixels(3, order, train=True, random_crop=True))
    assert torch.equal(drawn[2:], pixels(2, order[2:], train=True, random_crop=True))
    plain = pixels(1, order, train=False, random_crop=True)
    assert torch.equal(plain, pixels(2, order, train=True, random_crop=False))
    assert not torch.equal(plain, drawn)
    (tmp_path / "4.png").write_bytes(b"")
    with pytest.raises(ParadiseError, match=r"4\.png.*empty"):
        pixels(2, order, train=False, random_crop=False)
