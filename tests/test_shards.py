"""Images in tar files are those of a folder, wherever they lie."""

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.data import packed_images
from paradise_cli.inference.default_model import default_model
from paradise_cli.inference.loading import LoadedModel, load

from .tiny_model import save_images, save_tiny

COUNT = 11
NEXT = 512 + 1024  # where the second header begins: each image takes two blocks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_images(tmp_path / "photos", COUNT)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pack(shard: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    shard.parent.mkdir(exist_ok=True)
    with tarfile.open(shard, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return shard


def test_a_packed_folder_gives_what_the_folder_gives(model: LoadedModel, photos: Path) -> None:
    shard = pack(photos.parent / "photos.tar", files_of(photos).items())
    from_folder, from_shard = model.encode(photos), model.encode(shard)
    assert np.array_equal(from_folder.mean, from_shard.mean)
    assert np.array_equal(from_folder.log_variance, from_shard.log_variance)
    assert from_shard.ids == [str(shard / name) for name in files_of(photos)]
    names = [
        [encoding.class_names[row] if row >= 0 else "" for row in encoding.labels[:, 0]]
        for encoding in (from_folder, from_shard)
    ]
    assert names[0] == names[1] == [name.rpartition("/")[0] for name in files_of(photos)]


def test_a_folder_of_shards_is_read_in_order_and_a_class_is_what_stands_beside(
    model: LoadedModel, photos: Path, tmp_path: Path
) -> None:
    pictures = list(files_of(photos).values())
    # Not sorted by name within a shard: its order counts.
    shards = [
        pack(
            tmp_path / "shards" / f"{number:05d}.tar",
            [
                each
                for row in reversed(rows)
                for each in (
                    (f"./{row:06d}.cls", f"{row % 3}\n".encode()),
                    (f"./{row:06d}.json", b"{}"),
                    (f"./{row:06d}.png", pictures[row]),
                    (f"./._{row:06d}.png", b"of another system"),
                )
            ],
        )
        for number, rows in enumerate([range(6), range(6, COUNT)])
    ]
    order = [*reversed(range(6)), *reversed(range(6, COUNT))]
    found = model.encode(tmp_path / "shards")
    assert np.array_equal(found.mean, model.encode(photos).mean[order])
    assert [found.class_names[row] for row in found.labels[:, 0]] == [str(r % 3) for r in order]
    for other in (shards, str(tmp_path / "shards" / "*.tar")):
        assert model.encode(other).ids == found.ids
    # Beside images of its own a folder's tar files are left out, with a word.
    (photos / "copy.tar").write_bytes(shards[0].read_bytes())
    with pytest.warns(UserWarning, match="1 tar file beside its images are left out"):
        assert len(model.encode(photos).ids) == COUNT


def test_a_hard_link_is_the_image_and_a_class_may_be_of_any_encoding(tmp_path: Path) -> None:
    shard = tmp_path / "links.tar"
    with tarfile.open(shard, "w") as archive:
        for name, content in (("a.png", b"pixels"), ("b.cls", b"caf\xe9")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(link)
    one, other = packed_images(shard)
    assert one.read_bytes() == other.read_bytes() == b"pixels"
    assert (one.class_name, other.class_name) == (None, "caf\\xe9")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):  # also where what it leads to is not there
        link.type = kind
        with tarfile.open(shard, "w") as archive:
            archive.addfile(link)
        with pytest.raises(ParadiseError, match=r"b\.png is a link: pack what it leads to"):
            packed_images(shard)


def test_one_that_cannot_be_read_is_skipped_and_listed(photos: Path, tmp_path: Path) -> None:
    weights = save_tiny(tmp_path / "tiny.safetensors")
    files = [*files_of(photos).items()]
    files.insert(5, ("cat/bad.png", b"no image"))
    shard = pack(tmp_path / "photos.tar", files)
    words = ["encode", str(shard), "--model", str(weights), "--out", str(tmp_path / "z.npy")]
    done = CliRunner().invoke(app, [*words, "--parts", "5"])
    assert done.exit_code == 1 and "photos.tar/cat/bad.png" in done.stderr
    parts = [np.load(path) for path in sorted(tmp_path.glob("z-*.npy"))]
    assert [len(part) for part in parts] == [5, 4, 2]  # the bad one is the sixth


def test_the_packaged_model_is_that_for_the_first_image(tmp_path: Path) -> None:
    small = io.BytesIO()
    Image.new("L", (28, 28)).save(small, "png")
    shard = pack(tmp_path / "few.tar", [("1.png", small.getvalue())])
    assert default_model([str(shard)]) == ("fashion-mnist-2d-supervised", "1x28x28")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "damaged, or no tar file"),
        (lambda content: b"hello" * 300, "damaged, or no tar file"),
        (lambda content: content[:700], "no tar file|cut short|ends within"),
        (lambda content: b"\x1f\x8b" + content, "a compressed one must be unpacked once"),
        (lambda content: content.rstrip(b"\0"), "no tar file|cut short|ends within"),
        (lambda content: content[:NEXT], "cut short or changed after 1 image"),
        (lambda content: content[: NEXT + 100], "cut short or changed after 1 image"),
        (
            lambda content: content[:NEXT] + b"\xff" + content[NEXT + 1 :],
            "cut short or changed after 1 image",
        ),
        (
            lambda content: content[:NEXT] + bytes(512) + content[NEXT + 512 :],
            "cut short or changed after 1 image",
        ),
    ],
)
def test_what_is_no_tar_file_is_one_message(
    photos: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    shard = pack(tmp_path / "photos.tar", files_of(photos).items())
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(ParadiseError, match=rf"photos\.tar: .*({message})") as error:
        for image in packed_images(shard):
            image.read_bytes()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"GNU.sparse.map": "0,4"}, "a.png is stored with holes: pack it without --sparse"),
        ({"comment": "x" * 2**21}, "a header of 2097664 bytes"),  # rounded up to blocks of 512
    ],
)
def test_headers_of_odd_kinds_are_one_message(
    tmp_path: Path, headers: dict[str, str], message: str
) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.png")
        member.size, member.pax_headers = 4, headers
        archive.addfile(member, io.BytesIO(b"four"))
    with pytest.raises(ParadiseError, match=rf"odd\.tar: .*{message}"):
        packed_images(tmp_path / "odd.tar")


def test_a_name_that_leads_out_is_one_message_and_capitals_mean_the_same(tmp_path: Path) -> None:
    (image,) = packed_images(pack(tmp_path / "a.tar", [("1.PNG", b"four"), ("1.CLS", b"cat")]))
    assert image.class_name == "cat"
    outside = pack(tmp_path / "out.tar", [("1.png", b"four"), ("../2.png", b"four")])
    with pytest.raises(ParadiseError, match=r"out\.tar: .*\.\./2\.png leads out of it"):
        packed_images(outside)


def test_a_shard_without_images_and_a_pipe_are_refused(tmp_path: Path) -> None:
    shard = pack(tmp_path / "text.tar", [("a.txt", b"text")])
    with pytest.raises(ParadiseError, match=r"text\.tar: no image in it; readable suffixes"):
        packed_images(shard)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(ParadiseError, match="a pipe or a device"):
        packed_images(tmp_path / "pipe.tar")
