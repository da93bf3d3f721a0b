"""No command replaces another result in silence; the same command may be run again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from paradise_cli.cli import app
from paradise_cli.cli.images import placed
from paradise_cli.core.errors import UsageError
from paradise_cli.core.results import refuse_among, replacing
from paradise_cli.core.storage import write_json

from .tiny_model import save_images, save_tiny


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(done: Result, *words: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stdout == "" and "Traceback" not in done.output
    for word in (*words, "choose another --out, or add --overwrite"):
        assert word in done.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny.safetensors")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_images(tmp_path / "photos", 6)


@pytest.mark.parametrize(
    ("command", "out"),
    [("encode", "z.npy"), ("encode", "z.npz"), ("predict", "p.csv"), ("predict", "p.json"),
     ("reconstruct", "kept"), ("reconstruct", "kept.png"), ("evaluate", "e.json")],
)  # fmt: skip
def test_only_the_same_command_replaces_a_result(
    model: Path, photos: Path, tmp_path: Path, command: str, out: str
) -> None:
    other_photos = save_images(tmp_path / "others", 9)
    target = tmp_path / out

    def given(weights: Path, images: Path) -> list[object]:
        if command == "evaluate":
            return [command, weights, "--data", images, "--out", target]
        return [command, images, "--model", weights, "--out", target]

    def content() -> dict[Path, bytes]:
        files = sorted(target.rglob("*")) if target.is_dir() else [target]
        return {file: file.read_bytes() for file in files}

    assert run(*given(model, photos)).exit_code == 0
    first = content()
    assert run(*given(model, photos)).exit_code == 0  # the same command again
    assert content() == first
    refused(run(*given(model, other_photos)), f"{target} holds another result", "others")
    other = save_tiny(tmp_path / "other.safetensors", latent_dim=2)
    refused(run(*given(other, photos)), "made with other model", "tiny.safetensors, now")
    assert content() == first
    assert run(*given(other, photos), "--overwrite").exit_code == 0
    assert content() != first
    assert run(*given(other, photos)).exit_code == 0
    refused(run(*given(model, photos)), "made with other model")


def test_data_that_are_not_named_are_those_of_the_recipe(tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    with replacing(out, {"data": "one.npz"}):
        write_json(out, {})
    message = r"made with other data \(one.npz, now those of the recipe\): "
    with pytest.raises(UsageError, match=message), replacing(out, {"data": None}):
        pytest.fail("replaced")


def test_what_nobody_knows_the_origin_of_is_kept(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "z.npy"
    given = ["encode", photos, "--model", model, "--out", out]
    out.write_text("precious")
    refused(run(*given), "which this command did not make")
    assert out.read_text() == "precious"
    out.unlink()
    assert run(*given).exit_code == 0
    np.save(out, np.zeros(3))  # put there by somebody else since
    refused(run(*given), "which this command did not make")
    assert run(*given, "--overwrite").exit_code == 0 and np.load(out).shape == (6, 3)


def test_the_index_that_two_outputs_share_is_kept(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    given = ["encode", photos, "--model", model]
    assert run(*given, "--out", tmp_path / "z.npy").exit_code == 0
    assert run(*given, "--out", tmp_path / "z.npz", "--samples", 3).exit_code == 0
    other = save_images(tmp_path / "others", 9)
    before = (tmp_path / "z.index.csv").read_bytes()
    (tmp_path / "z.npz").unlink()
    done = run("encode", other, "--model", model, "--out", tmp_path / "z.npz")
    refused(done, "z.index.csv holds another result")
    assert (tmp_path / "z.index.csv").read_bytes() == before


def test_draws_decide_an_encoding_and_a_seed_without_draws_does_not(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    given = ["encode", photos, "--model", model, "--out", tmp_path / "z.npy"]
    assert run(*given, "--seed", 1).exit_code == 0
    assert run(*given, "--seed", 2).exit_code == 0
    refused(run(*given, "--samples", 2))


def test_a_table_of_costs_is_a_result_too(model: Path, photos: Path, tmp_path: Path) -> None:
    given = ["evaluate", model, "--data", photos, "--per-example", tmp_path / "costs.csv"]
    assert run(*given).exit_code == 0
    assert run(*given).exit_code == 0
    refused(run(*given, "--seed", 1), "made with other seed (0, now 1)")


def test_a_pipe_is_written_into(model: Path, photos: Path) -> None:
    for _ in range(2):
        assert run("encode", photos, "--model", model, "--out", os.devnull).exit_code == 2  # suffix
        done = run("evaluate", model, "--data", photos, "--out", os.devnull)
        assert done.exit_code == 0, done.output
    assert not Path(os.devnull).is_file()


def test_a_body_that_fails_is_not_remembered(tmp_path: Path) -> None:
    out = tmp_path / "r.json"

    def write(origin: dict[str, object], body: Callable[[], object]) -> None:
        with replacing(out, origin):
            body()

    write({"seed": 1}, lambda: out.write_text("one"))
    with pytest.raises(ZeroDivisionError):
        write({"seed": 1}, lambda: 1 / 0)
    write({"seed": 1}, lambda: out.write_text("two"))
    with pytest.raises(UsageError, match=r"other seed \(1, now 2\)"):
        write({"seed": 2}, lambda: out.write_text("three"))
    assert out.read_text() == "two"

    def write_and_fail() -> None:
        out.write_text("of three")
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError), replacing(out, {"seed": 3}, overwrite=True):
        write_and_fail()
    with pytest.raises(UsageError, match=r"other seed \(3, now 2\)"):
        write({"seed": 2}, lambda: out.write_text("two"))
    write({"seed": 3}, lambda: out.write_text("three"))
    for damaged in ("hello", "{}", json.dumps({"origin": {"seed": 1}, "file": None})):
        (tmp_path / ".r.json.json").write_text(damaged)
        with pytest.raises(UsageError, match="which this command did not make"):
            write({"seed": 1}, lambda: out.write_text("four"))


@pytest.mark.parametrize("before", [False, True], ids=["nothing", "an older result"])
def test_a_command_that_was_killed_may_be_repeated_and_no_other(
    tmp_path: Path, before: bool
) -> None:
    out = tmp_path / "new" / "e.json"
    if before:
        with replacing(out, {"seed": 0}):
            write_json(out, [0])
    left = tmp_path / "left"
    with replacing(out, {"seed": 1}, overwrite=True):
        write_json(out, [1])
        # What a kill would leave here, after the result and before it is remembered.
        shutil.copytree(out.parent, left)
    left /= out.name
    with pytest.raises(UsageError, match="another result"), replacing(left, {"seed": 2}):
        pass
    with replacing(left, {"seed": 1}):
        write_json(left, [1])
    with pytest.raises(UsageError, match="made with other seed"), replacing(left, {"seed": 0}):
        pass


def test_an_encoding_of_other_weights_is_another_result(photos: Path, tmp_path: Path) -> None:
    """A run that was trained anew has other weights under its old name."""
    model = save_tiny(tmp_path / "tiny.safetensors")
    out = tmp_path / "z.npy"
    given = ["encode", photos, "--model", model, "--out", out]
    assert run(*given).exit_code == 0
    before = out.read_bytes()
    save_tiny(model, latent_dim=2)
    refused(run(*given), "made with other weights (")
    assert out.read_bytes() == before
    assert run(*given, "--overwrite").exit_code == 0 and np.load(out).shape == (6, 2)


def test_what_is_read_is_never_overwritten(model: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.npy"
    np.save(pixels, np.zeros((2, 16, 16, 3), np.float32))
    for out in (model, pixels):
        before = out.read_bytes()
        done = run("encode", pixels, "--model", model, "--out", out, "--overwrite")
        assert done.exit_code == 2 and f"--out {out} is read to make it" in done.stderr
        assert out.read_bytes() == before


def test_a_measurement_of_posteriors_is_a_result_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "z.npz", mu=draw.normal(size=(40, 2)), logvar=np.zeros((40, 2)))
    out = tmp_path / "r.json"
    given = ["rate", tmp_path / "z.npz", "--out", out]
    out.write_text("precious")
    refused(run(*given), "which this command did not make")
    assert out.read_text() == "precious"
    out.unlink()
    assert run(*given).exit_code == 0 and run(*given).exit_code == 0
    refused(run(*given, "--draws", 2), "made with other draws (1, now 2)")
    assert run(*given, "--draws", 2, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        (["evaluate", "M", "--data", "P", "--per-example", "c.csv"], "c.png"),
        (["evaluate", "M", "--data", "P", "--nuisance", "--out", "e.json"], "e.nuisance.png"),
        (["encode", "P", "--model", "M", "--parts", "2", "--out", "z.npy"], "z.parts.json"),
        (["attack", "M", "--data", "P", "--out", "o"], "o/report.json"),
        (["attack", "M", "--data", "P", "--card", "--out", "o"], "o/card.html"),
        (["certify", "M", "--data", "P", "--sigma", "0.1", "--out", "o"], "o/certificate.csv"),
        (["sweep", "digits", "--alpha", "1", "--out", "o"], "o/sweep.csv"),
        (["sweep", "digits", "--alpha", "1", "--out", "o"], "o/frontier.png"),
        (["train", "digits", "--out", "o"], "o/model.safetensors"),
        (["rd", "bernoulli", "--p", "0.3", "--out", "o"], "o/curve.csv"),
        (["rd", "bernoulli", "--p", "0.3", "--out", "o"], "o/curve.png"),
        (["attack", "M", "--data", "P", "--out", "o"], "o/points.f32"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_files_of_others_beside_a_result_are_kept(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: list[str], taken: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    place = Path(taken)
    place.parent.mkdir(exist_ok=True)
    place.write_text("precious")
    named = {"M": model, "P": photos}
    done = run(*(named.get(word, word) for word in command))
    assert done.exit_code == 2, done.output
    assert taken in done.stderr and "this command did not make" in done.stderr
    assert place.read_text() == "precious"


@pytest.mark.parametrize(
    "command",
    [
        ["train", "digits", "-s", "data={name: image_folder, root: P}", "--out", "P/run"],
        ["sweep", "digits", "-s", "data={name: image_folder, root: P}", "--alpha", "1",
         "--split", "train", "--out", "P/run"],
        ["search", "P", "q.png", "--index", "z.npz", "--picture", "P/near.png"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_nothing_is_drawn_among_the_images_it_is_made_of(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("P").symlink_to(photos)
    before = sorted(photos.rglob("*"))
    shutil.copy(next(file for file in before if file.is_file()), "q.png")
    done = run(*command)
    assert done.exit_code == 2, done.output
    assert "would stand among the images of P" in done.stderr
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize(
    ("out", "given", "among"),
    [
        ("A/b/r.png", "A", True),
        ("A/b/r.png", "A/*/*.png", True),
        ("A/new", "A/**", True),
        ("A/r.png", "A/*.png", True),
        ("A/r.png", "A/*.jpg", False),
        ("A/b/r.png", "A/*.png", False),
        ("A", "A/1.png", True),
        (".", "digits", False),
        ("B/r.png", "A/*/*.png", False),
    ],
)
def test_what_would_be_read_with_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, given: str, among: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A" / "b").mkdir(parents=True)
    (tmp_path / "A" / "1.png").touch()
    with pytest.raises(UsageError, match="would stand among") if among else nullcontext():
        refuse_among(Path(out), [given])


@pytest.mark.parametrize(
    "command",
    [
        [
            "evaluate",
            "M",
            "--set",
            "data={name: image_folder, root: P}",
            "--per-example",
            "P/c.csv",
        ],
        ["evaluate", "M", "--data", "P", "--nuisance", "--out", "P/n.json"],
        ["attack", "M", "--data", "P", "--card", "--out", "P/o"],
        ["certify", "M", "--data", "P", "--sigma", "0.1", "--out", "P/o"],
    ],
    ids=lambda command: command[0],
)
def test_no_picture_is_drawn_among_the_images_that_are_judged(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("P").symlink_to(photos)
    if command[2] == "--set":
        command = [*command[:2], "--set", f"data.root={photos}", *command[4:]]
    done = run(*(model if word == "M" else word for word in command))
    assert done.exit_code == 2 and "would stand among the images" in done.stderr, done.output
    assert len(list(photos.rglob("*.png"))) == 6


def test_a_pattern_is_of_the_folder_it_was_typed_in(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "z.npy"
    for name, count in (("one", 2), ("two", 3)):
        monkeypatch.chdir(save_images(tmp_path / name, count))
        done = run("encode", "**/*.png", "--model", model, "--out", out)
        if name == "one":
            assert done.exit_code == 0, done.output
    refused(done, "made with other images")


def test_a_folder_in_a_setting_is_that_of_where_it_was_typed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    first = placed(["data.root=photos", "data.size=8"])
    assert first == [f"data.root={photos}", "data.size=8"]
    monkeypatch.chdir(photos)
    assert placed([f"data.root=../{photos.name}", "data.size=8"]) == first


@pytest.mark.parametrize("taken", ["grid.png", "000000-0.png"])
def test_pictures_of_others_are_kept_in_a_folder_of_reconstructions(
    model: Path, photos: Path, tmp_path: Path, taken: str
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / taken).write_text("precious")
    refused(run("reconstruct", photos, "--model", model, "--out", tmp_path / "kept"))
    assert (tmp_path / "kept" / taken).read_text() == "precious"


def test_the_manifest_of_parts_is_of_one_kind_of_file(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    given = ["encode", photos, "--model", model, "--parts", 2, "--out"]
    mine = tmp_path / "y-00001-of-00003.index.csv"
    mine.write_text("precious")
    refused(run(*given, tmp_path / "y.npy"), mine.name)
    assert mine.read_text() == "precious"
    assert run(*given, tmp_path / "z.npy").exit_code == 0
    refused(run(*given, tmp_path / "z.npz"), "made with other kind (.npy, now .npz)")


def test_stdout_is_no_result_to_be_kept(model: Path, photos: Path, tmp_path: Path) -> None:
    with (tmp_path / "here.json").open("w") as file:
        for _ in range(2):
            command = [sys.executable, "-m", "paradise_cli", "evaluate", str(model), "--data"]
            command += [str(photos), "--out", "/dev/stdout"]
            assert subprocess.run(command, stdout=file, check=False).returncode == 0
    assert not Path("/dev/.stdout.json").exists()
