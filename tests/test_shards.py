"""Images in tar files are those of a folder, wherever they lie."""

import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from paradise_cli.build import build_data, build_info, check_validation
from paradise_cli.cli import app
from paradise_cli.core.errors import Interrupted, ParadiseError, UsageError
from paradise_cli.core.randomness import permutation
from paradise_cli.data import DATASETS, info_of, packed_images
from paradise_cli.inference.default_model import default_model
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.train import train
from paradise_cli.training.checkpoint import State
from paradise_cli.training.loop import Reporter

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


def tree(root: Path) -> Path:
    """train/ and test/, each with two class folders of pictures."""
    for split, size in (("train", 9), ("test", 4)):
        for seed, kind in enumerate(("cat", "dog")):
            made = save_images(root / "made", size, seed)
            (root / split / kind).mkdir(parents=True)
            for path in made.rglob("*.png"):
                path.rename(root / split / kind / path.name)
            shutil.rmtree(made)
    return root


def packed_tree(folder: Path, root: Path) -> Path:
    """The same in tar files: two of train/, and one that got nothing; one of test/."""
    for split in ("train", "test"):
        files = list(files_of(folder / split).items())
        halves = [files[::2], [], files[1::2]] if split == "train" else [files]
        for number, half in enumerate(halves):
            root.mkdir(exist_ok=True)
            pack(root / split / f"{number:03}.tar", half)
    return root


def test_a_data_set_of_shards_is_that_of_the_folder(tmp_path: Path) -> None:
    folder = tree(tmp_path / "folder")
    shards = packed_tree(folder, tmp_path / "shards")
    one = DATASETS["image_folder"](folder, size=8, label="mine", memory_gib=0.0)
    other = DATASETS["tar_shards"](shards, size=8, label="mine")
    assert other.info == one.info == info_of("tar_shards", shards, size=8, label="mine")
    for name, split in other.splits().items():
        same = one.splits()[name]
        place = {each.partition(".tar/")[2]: row for row, each in enumerate(split.ids)}
        rows = torch.tensor([place[each.removeprefix(f"{name}/")] for each in same.ids])
        assert torch.equal(split.labels[rows], same.labels)
        order = torch.arange(len(same))
        (ours,) = split.fetch(rows, len(rows), (), False)
        (theirs,) = same.fetch(order, len(order), (), False)
        assert torch.equal(ours, theirs)
        part = split.select(rows[2:4])
        assert list(part.ids) == [split.ids[row] for row in rows[2:4].tolist()]
        assert torch.equal(next(part.fetch(order[:2], 2, (), False)), theirs[2:4])


def test_shards_that_bring_validation_images_say_so_before_they_are_read(tmp_path: Path) -> None:
    """So that none are held out of the others, and these can be attacked."""
    folder = tree(tmp_path / "folder")
    shards = packed_tree(folder, tmp_path / "shards")
    chosen = [f"data={{name: tar_shards, root: {shards}, size: 8, validation: 0.0}}"]
    chosen += ["train.validate={attack: {eps: 0.1, steps: 1}}", "data.augment=[]"]
    chosen += ["model.mean=null", "model.std=null"]
    recipe = load_recipe("digits", chosen).recipe
    with pytest.raises(UsageError, match="none are held out"):
        check_validation(recipe, build_info(recipe))
    pack(shards / "val" / "000.tar", list(files_of(folder / "test").items()))
    info = build_info(recipe)
    check_validation(recipe, info)
    assert info.own_validation and build_data(recipe).validation is not None


def test_random_crops_of_shards_are_keyed_by_the_row(tmp_path: Path) -> None:
    shards = packed_tree(tree(tmp_path / "folder"), tmp_path / "shards")
    split = DATASETS["tar_shards"](shards, size=8, train_crop="random_resized").train
    order = torch.randperm(len(split))
    whole = torch.cat(list(split.fetch(order, 5, ("key", 1), True)))
    later = torch.cat(list(split.fetch(order[7:], 3, ("key", 1), True)))
    assert torch.equal(whole[7:], later)
    assert not torch.equal(whole, torch.cat(list(split.fetch(order, 5, ("key", 2), True))))


def test_classes_of_shards_may_stand_beside_the_images(tmp_path: Path) -> None:
    content = list(files_of(save_images(tmp_path / "photos", 4)).values())
    files = [(f"{row}.png", each) for row, each in enumerate(content)]
    files += [(f"{row}.cls", name) for row, name in enumerate([b"owl", b"elk", b"owl\n"])]
    pack(tmp_path / "shards" / "a.tar", files)
    found = DATASETS["tar_shards"](tmp_path / "shards", size=8)
    assert found.info.targets[0].classes == ("elk", "owl") and found.info.train_size == 4
    assert found.train.labels[:, 0].tolist() == [1, 0, 1, -1]


def test_images_whose_names_hold_dots_have_classes_of_their_own(tmp_path: Path) -> None:
    (content, *_) = files_of(save_images(tmp_path / "photos", 1)).values()
    classes = {"2024.05.01": b"owl", "2024.05.02": b"elk", "x": b"owl", "y.label": b"owl"}
    classes |= {"z.1.png": b"elk", "z.2.png": b"owl"}
    images = ["2024.05.01.png", "2024.05.02.png", "2024.05.03.png", "x.left.png", "y.input.png"]
    images += ["z.1.png", "z.2.png"]
    files = [(name, content) for name in images]
    files += [(f"{name}.cls", text) for name, text in classes.items()]
    pack(tmp_path / "shards" / "a.tar", files)
    found = DATASETS["tar_shards"](tmp_path / "shards", size=8)
    assert found.info.targets[0].classes == ("elk", "owl")
    assert found.train.labels[:, 0].tolist() == [1, 0, -1, 1, 1, 0, 1]


def test_an_image_in_a_shard_that_cannot_be_read_is_named_or_left_out(tmp_path: Path) -> None:
    shards = packed_tree(tree(tmp_path / "folder"), tmp_path / "shards")
    pack(shards / "train" / "bad.tar", [("cat/zz.png", b"no picture")])
    found = DATASETS["tar_shards"](shards, size=8)
    with pytest.raises(ParadiseError, match=r"bad\.tar/cat/zz\.png.*data\.skip_unreadable"):
        list(found.train.fetch(torch.arange(len(found.train)), 4, (), False))
    left = DATASETS["tar_shards"](shards, size=8, skip_unreadable=True)
    assert len(left.train) == left.info.train_size == len(found.train) - 1 == 18
    (note,) = left.notes
    assert "1 of 27 images cannot be read and are left out: train/bad.tar/cat/zz.png" in note


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no \.tar file to train on.*image_folder"),
        ({"test/0.tar": ["cat/a.png"]}, r"no \.tar file to train on"),
        (
            {"train/0.tar": ["cat/a.png", "dog/a.png"], "val/0.tar": ["cow/a.png"]},
            r"classes \['cow'\] of the validation split have no training images",
        ),
    ],
)
def test_shards_that_are_no_data_set_are_refused(
    files: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    (content, *_) = files_of(save_images(tmp_path / "photos", 1)).values()
    root = tmp_path / "shards"
    for shard, names in files.items():
        (root / shard).parent.mkdir(parents=True, exist_ok=True)
        pack(root / shard, [(name, content) for name in names])
    root.mkdir(exist_ok=True)
    with pytest.raises(ParadiseError, match=message):
        DATASETS["tar_shards"](root, size=8)


def test_a_head_is_trained_on_shards_and_evaluated_on_them(tmp_path: Path) -> None:
    shards = packed_tree(tree(tmp_path / "folder"), tmp_path / "shards")
    words = ["--set", f"data={{name: tar_shards, root: {shards}, size: 8}}", "--set",
             "train.epochs=2", "--set", "model.mean=null", "--set", "model.std=null"]  # fmt: skip
    out = ["--out", str(tmp_path / "run"), "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", "digits", *words, *out])
    assert done.exit_code == 0, done.stderr
    encoded = load(tmp_path / "run").encode("tar_shards:test")
    assert encoded.mean.shape == (8, 2) and sorted(encoded.labels[:, 0]) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("name", ["image_folder", "tar_shards"])
def test_a_streamed_training_goes_on_in_mid_epoch_however_its_images_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, packed = tree(tmp_path / "image_folder"), tmp_path / "tar_shards"
    for split in ("train", "test"):
        files = list(files_of(folder / split).items())
        packed.mkdir(exist_ok=True)
        # Uneven, and not in the order of the names.
        for number, part in enumerate([files[1::3], files[:1], [*files[2::3], *files[3::3]]]):
            pack(packed / split / f"{number}.tar", part)
    pack(packed / "train" / "bad.tar", [("cat/005b.png", b"no picture")])
    common = "size: 8, train_crop: random_resized, augment: [flip], label: mine, validation: 0.0"
    said: list[str] = []

    def run(out: Path, data: str, *rest: str) -> list[dict[str, Any]]:
        more = ", skip_unreadable: true" if data == "tar_shards" else ", memory_gib: 0.0"
        asked = f"data={{name: {data}, root: {tmp_path / data}, {common}{more}}}"
        chosen = [asked, "model.mean=null", "model.std=null", "train.epochs=3"]
        recipe = load_recipe("digits", [*chosen, "train.batch_size=4", *rest]).recipe
        reporter = Reporter()
        monkeypatch.setattr(reporter, "say", said.append)
        train(recipe, out=out, device="cpu", report=reporter)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    whole, observe = run(tmp_path / "whole", "image_folder"), State.observe
    per_epoch, epochs = 18 // 4, 3
    for stop in (1, per_epoch + 2, 2 * per_epoch + 3):

        def interrupt(self: State, terms: dict[str, torch.Tensor], at: int = stop) -> None:
            observe(self, terms)
            if self.step + 1 == at:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(State, "observe", interrupt)
        with pytest.raises(Interrupted, match=f"at step {stop} of {epochs * per_epoch}"):
            run(tmp_path / "parts", name)
    monkeypatch.setattr(State, "observe", observe)
    assert run(tmp_path / "parts", name) == whole and len(whole) == epochs
    one, other = (
        read_model(tmp_path / part / "model.safetensors")[0] for part in ("whole", "parts")
    )
    assert all(torch.equal(one[each], other[each]) for each in one | other)
    assert any("left out: train/bad.tar/cat/005b.png" in line for line in said) == (
        name == "tar_shards"
    )


def test_an_epoch_is_a_function_of_seed_and_number_however_images_are_packed(
    tmp_path: Path,
) -> None:
    folder = tree(tmp_path / "folder")
    files = list(files_of(folder / "train").items())
    one = DATASETS["image_folder"](folder, size=8, train_crop="random_resized").train
    order = permutation(len(one), 7, "order", 3)
    epoch = torch.cat(list(one.fetch(order, 4, (7, 3), True)))
    for number, cuts in enumerate([[], [1, 2, 9], [5]]):
        root = tmp_path / str(number)
        mixed = [files[row] for row in permutation(len(files), number).tolist()]
        for first, last in zip([0, *cuts], [*cuts, len(files)], strict=True):
            root.mkdir(exist_ok=True)
            pack(root / "train" / f"{first}.tar", mixed[first:last])
        other = DATASETS["tar_shards"](root, size=8, train_crop="random_resized").train
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(torch.cat(list(other.fetch(order, 4, (7, 3), True))), epoch)
