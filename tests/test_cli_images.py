"""`paradise encode`, `predict` and `reconstruct` as a user meets them."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from paradise_cli.cli import app

from .tiny_model import CLASSES, LATENT, save_images, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_images(tmp_path / "photos", 6)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_encode(model: str, photos: Path, tmp_path: Path) -> None:
    done = run("encode", photos, "--out", tmp_path / "z.npy", "--model", model, "--batch-size", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "6 rows of 3 dimensions" in done.stderr
    assert np.load(tmp_path / "z.npy").shape == (6, LATENT)


def test_one_index_is_never_of_two_lists_of_images(
    model: str, photos: Path, tmp_path: Path
) -> None:
    """Of z.npy and z.npz: what a new image would do to the rows of the one that stands."""

    def encode(name: str, *more: str) -> Result:
        return run("encode", photos, "-o", tmp_path / name, "-m", model, *more)

    def listed() -> list[str]:
        with (tmp_path / "z.index.csv").open(newline="") as file:
            return [row["path"] for row in csv.DictReader(file)]

    assert encode("z.npy").exit_code == 0
    before = listed()
    (photos / "000-new.png").write_bytes(min(photos.rglob("*.png")).read_bytes())
    done = encode("z.npz")
    assert done.exit_code == 2 and not (tmp_path / "z.npz").exists() and listed() == before
    assert "z.index.csv holds another result, made with other listing (6 images, " in done.stderr
    assert ", now 7 images, " in done.stderr
    # Alone, the same command follows its folder.
    assert encode("z.npy").exit_code == 0
    assert listed() == sorted([*before, str(photos / "000-new.png")])
    assert encode("z.npz").exit_code == 0 and len(np.load(tmp_path / "z.npy")) == 7
    (photos / "000-new.png").unlink()
    assert encode("z.npy").exit_code == 2
    done = encode("z.npy", "--overwrite")
    assert done.exit_code == 0 and listed() == before
    assert "z.index.csv is no longer that of" in done.stderr


def test_one_index_is_never_of_two_lists_of_readable_images(
    model: str, photos: Path, tmp_path: Path
) -> None:
    """A picture that is mended moves the rows behind it, which z.npy does not know of."""

    def encode(name: str) -> Result:
        return run("encode", photos, "-o", tmp_path / name, "-m", model)

    mended = min(photos.rglob("*.png"))
    whole = mended.read_bytes()
    mended.write_bytes(whole[:20])
    assert encode("z.npy").exit_code == 1
    index = (tmp_path / "z.index.csv").read_bytes()
    mended.write_bytes(whole)
    done = encode("z.npz")
    assert done.exit_code == 1 and "is the index of" in done.stderr
    assert (tmp_path / "z.index.csv").read_bytes() == index
    assert not (tmp_path / "z.npz").exists()
    (tmp_path / "z.npy").unlink()
    assert encode("z.npz").exit_code == 0


def test_file_names_need_not_be_text(model: str, photos: Path, tmp_path: Path) -> None:
    first = min(photos.rglob("*.png"))
    strange = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9 \xff, \n.png"))
    try:
        first.rename(strange)
    except OSError:
        pytest.skip("this file system has no such names")
    assert run("encode", photos, "-o", tmp_path / "z.npz", "-m", model).exit_code == 0
    with np.load(tmp_path / "z.npz") as z:
        assert str(strange) in z["ids"].tolist()
    with (tmp_path / "z.index.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        assert str(strange) in [row["path"] for row in csv.DictReader(file)]
    assert run("predict", photos, "-m", model).exit_code == 0
    assert run("predict", photos, "-m", model, "-o", tmp_path / "p.csv").exit_code == 0
    assert run("reconstruct", photos, "-m", model, "-o", tmp_path / "r").exit_code == 0
    strange.write_text("hello")
    assert run("encode", photos, "-o", tmp_path / "z.npy", "-m", model).exit_code == 1


def test_of_images_that_nobody_looked_at_nothing_is_said(model: str, tmp_path: Path) -> None:
    """The first 60 of 120 are broken, and so is the last, which a terminal does not come to."""
    photos = save_images(tmp_path / "photos", 120)
    files = sorted(photos.rglob("*.png"))
    for broken in (*files[:60], files[-1]):
        broken.write_text("hello")
    done = run("predict", photos, "-m", model)
    assert "\n60 of 110 images cannot be read" in done.stderr
    assert "the first 110 of 120 images; " in done.stderr
    for shown, file in enumerate(files):
        assert (str(file) in done.stdout) is (60 <= shown < 110)
    for more in (["--json"], ["-o", tmp_path / "p.csv"]):
        told = run("predict", photos, "-m", model, *more).stderr
        assert "\n61 of 120 images cannot be read" in told


def test_the_order_of_arguments_does_not_matter(model: str, photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    for name, given in (("a", files), ("b", [*reversed(files), files[0]])):
        assert run("encode", *given, "-o", tmp_path / f"{name}.npy", "-m", model).exit_code == 0
    for kind in ("npy", "index.csv"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize("command", ["encode", "predict", "reconstruct"])
def test_unreadable_files_set_the_exit_code(
    model: str, photos: Path, tmp_path: Path, command: str
) -> None:
    (photos / "bad.jpg").write_text("hello")
    out = tmp_path / {"encode": "z.npz", "predict": "p.csv", "reconstruct": "r"}[command]
    done = run(command, photos, "--out", out, "--model", model, "--json")
    assert done.exit_code == 1
    assert f"skipped {photos / 'bad.jpg'}: not an image" in done.stderr
    assert "1 of 7 images cannot be read" in done.stderr
    assert json.loads(done.stdout)["model"] == model
    assert out.exists()


@pytest.mark.parametrize("command", ["encode", "predict", "reconstruct"])
def test_mistakes_are_one_message(model: str, photos: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello")
    pickled = tmp_path / "pickled.safetensors"
    pickled.write_bytes(b"\x80\x04K\x01.")
    suffix = {"encode": ".npy", "predict": ".json", "reconstruct": ""}[command]
    out = ["--out", tmp_path / f"out{suffix}"]
    for images, weights, message in (
        (tmp_path / "empty", model, "no image among its 0 files;"),
        (tmp_path / "texts", model, "no image among its 1 file;"),
        (tmp_path / "nowhere", model, "no such file or folder"),
        (photos, tmp_path / "nowhere", "no such run folder or weights file"),
        (photos, pickled, "pickled weights are never opened"),
    ):
        done = run(command, images, *out, "--model", weights)
        assert done.exit_code in (1, 2)
        assert done.stderr.startswith("error: ") and message in done.stderr
        assert "Traceback" not in done.output
    assert not list(tmp_path.glob("out*"))


def test_predict_names_the_classes(model: str, photos: Path, tmp_path: Path) -> None:
    table = run("predict", photos, "--model", model)
    assert table.exit_code == 0 and any(name in table.stdout for name in CLASSES)
    document = json.loads(run("predict", photos, "--model", model, "--json", "--top", 3).stdout)
    assert [image["path"] for image in document["images"]] == sorted(
        map(str, photos.rglob("*.png"))
    )
    for image in document["images"]:
        best = image["heads"]["animal"]
        assert sorted(entry["class"] for entry in best) == CLASSES
        assert best == sorted(best, key=lambda entry: -entry["probability"])
        assert abs(sum(entry["probability"] for entry in best) - 1) < 1e-5
    (photos / "bad.jpg").write_text("hello")
    run("predict", photos, "--model", model, "--out", tmp_path / "p.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    good = [row for row in rows if not row["error"]]
    assert [(row["path"], row["class"]) for row in good] == [
        (image["path"], image["heads"]["animal"][0]["class"]) for image in document["images"]
    ]
    assert [row["path"] for row in rows if row["error"]] == [str(photos / "bad.jpg")]
    run("predict", photos, "--model", model, "--out", tmp_path / "p.json", "--top", 3)
    entries = json.loads((tmp_path / "p.json").read_text())
    assert [entry for entry in entries if "error" not in entry] == document["images"]
    assert run("predict", photos, "--model", model, "--out", tmp_path / "p.txt").exit_code == 2


def test_reconstruct_writes_pictures(model: str, photos: Path, tmp_path: Path) -> None:
    done = run("reconstruct", photos, "--out", tmp_path / "r", "--model", model)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert len(names) == 6 + 2 and {"grid.png", "index.csv"} < set(names)
    with Image.open(tmp_path / "r" / names[0]) as picture:
        assert picture.size == (12, 12) and picture.mode == "L"
    done = run("reconstruct", photos, "--out", tmp_path / "one.png", "--model", model)
    assert done.exit_code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "r" / "grid.png").read_bytes()


def test_reconstruct_needs_a_decoder(photos: Path, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "m.safetensors", decoder=False)
    done = run("reconstruct", photos, "--out", tmp_path / "r", "--model", model)
    assert done.exit_code == 1 and "has no decoder" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", ["encode", "predict", "reconstruct"])
@pytest.mark.parametrize("as_json", [True, False])
def test_where_no_image_can_be_read_nothing_is_written(
    model: str, tmp_path: Path, command: str, as_json: bool
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_text("hello")
    for out in {"encode": ["z.npy", "z.npz"], "predict": ["p.csv", "p.json", ""],
                "reconstruct": ["r", "r.png"]}[command]:  # fmt: skip
        given = ["--out", tmp_path / "new" / out] if out else []
        done = run(command, broken, "--model", model, *given, *(["--json"] if as_json else []))
        assert done.exit_code == 1 and done.stdout == ""
        assert f"error: no image can be read, of 1 given:\n  {broken / 'a.png'}: not an" in (
            done.stderr
        )
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("images", "out", "refused"),
    [
        ("photos", "photos", True), ("photos", "photos/kept", True),
        ("photos", "photos/../photos/kept.png", True), ("photos/", "elsewhere/../photos/a", True),
        ("photos/cat/000.png", "photos/cat", True), ("photos/cat/*.png", "photos/cat", True),
        ("photos/cat/000.png", "photos/cat/000.png", True), ("photos/**/*.png", "photos/a", True),
        ("**/*.png", "kept", True), ("link", "photos/kept", True),
        ("photos", "kept", False), ("photos/cat", "photos/kept", False), ("photos", ".", False),
        ("photos/cat/000.png", "photos/cat/kept", False), ("digits:test", ".", False),
        ("photos/cat/000.png", "photos/cat/kept.png", False), ("photos", "photos-kept", False),
    ],
)  # fmt: skip
def test_pictures_never_stand_among_the_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, out: str,
    refused: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("photos")
    message = f"--out {Path(out)}: the pictures would stand among the images of {images}"
    # Before the model is looked for: so a missing one tells that the place was no fault.
    done = run("reconstruct", images, "--out", out, "--model", "nothing")
    assert done.exit_code == 2 and (message in done.stderr) is refused
    assert ("no such run folder" in done.stderr) is not refused
    table = run("evaluate", "nothing", "--data", "photos", "--per-example", "photos/c.csv")
    assert table.exit_code == 2 and "--per-example photos/c.csv: the pictures" in table.stderr


def test_the_default_model_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "small.safetensors")
    monkeypatch.setattr("paradise_cli.hub.cards.resource_dir", lambda kind: tmp_path)
    chosen = "paradise_cli.inference.default_model.default_model"
    monkeypatch.setattr(chosen, lambda images, task: ("small", "1x12x12"))
    done = run("encode", photos, "--out", tmp_path / "z.npy")
    assert done.exit_code == 0
    assert "model: small, the packaged default for 1x12x12, trained on" in done.stderr


@pytest.mark.parametrize("command", ["encode", "predict", "reconstruct"])
def test_help_teaches_by_example(command: str) -> None:
    assert f"  paradise {command} " in run(command, "--help").stdout
