"""`paradise train` as a user meets it: one command, one clear error, exit codes, and the wheel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from paradise_cli.cli import app

from .tiny_model import save_images

ROOT = Path(__file__).parent.parent
SMALL = ["--device", "cpu", "--set", "model.backbone.hidden=[8]"]
QUICK = [*SMALL, "--set", "train.epochs=1"]
UNDRAWN = ["--set", "model.latent_dim=3"]


def paradise(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def message(result: Result) -> str:
    """The one message of a failed command: no traceback, nothing on stdout."""
    assert result.exit_code in (1, 2, 130) and result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.usefixtures("pictures")
def test_digits_ends_with_a_table_and_a_picture(empty_folder: Path) -> None:
    result = paradise("train", "digits", *QUICK)
    assert result.exit_code == 0
    assert "accuracy" in result.stdout and "exact rate" in result.stdout
    assert "using the shipped recipe 'digits'" in result.stderr
    with Image.open("runs/digits/posterior.png") as picture:
        assert min(picture.size) >= 600


def test_json_is_one_document_on_stdout() -> None:
    result = paradise("train", "digits", "--json", *QUICK, *UNDRAWN)
    document = json.loads(result.stdout)
    assert document["test"]["n"] == 360
    assert json.loads(Path("runs/digits/result.json").read_text())["test"] == document["test"]


def test_a_typo_is_named_with_its_place(empty_folder: Path) -> None:
    text = (ROOT / "recipes" / "digits.yaml").read_text().replace("epochs:", "epoch:")
    (empty_folder / "mine.yaml").write_text(text)
    line = 1 + text[: text.index("epoch:")].count("\n")
    result = paradise("train", "mine.yaml")
    assert result.exit_code == 2
    assert f"mine.yaml:{line}:9: train.epoch: unknown key; did you mean 'epochs'?" in message(
        result
    )


def test_an_unknown_recipe_names_those_that_are_like_it() -> None:
    result = paradise("train", "digitz")
    assert result.exit_code == 2
    assert "did you mean 'digits'?" in message(result) and "paradise recipes ls" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "data={name: image_folder}"], "name the folder"),
        (["--set", "data={name: image_folder, root: nowhere}"], "no such folder: nowhere"),
        (
            ["--set", "objective.tasks.0.head={name: mlp_decoder, hidden: [8]}"],
            "cannot read head mlp_decoder",
        ),
        (["--set", "objective.tasks.0.target=colour"], "no target 'colour'"),
        (["--set", "train.init=nowhere.safetensors"], "nowhere.safetensors"),
        (["--device", "tpu9"], "allowed: auto, cpu, cuda"),
    ],
)
def test_one_clear_message_and_nothing_left_behind(arguments: list[str], expected: str) -> None:
    assert expected in message(paradise("train", "digits", *QUICK, *arguments))
    assert not list(Path().glob("runs/**/*.safetensors"))


def test_debug_shows_the_traceback() -> None:
    result = paradise("--debug", "train", "digitz")
    assert result.exception is not None and "digitz" in str(result.exception)


def test_ctrl_c_saves_and_the_same_command_goes_on(empty_folder: Path) -> None:
    command = ["train", "digits", *SMALL, *UNDRAWN, "--set", "train.epochs=50"]
    with subprocess.Popen(
        [sys.executable, "-m", "paradise_cli", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                break
        error = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on from there" in error and "Traceback" not in error
    assert error.count("stopping after this step; Ctrl-C again ends at once\n") == 1
    done = len(Path("runs/digits/metrics.jsonl").read_text().splitlines())
    assert 0 < done < 50
    assert paradise(*command).exit_code == 0
    records = [
        json.loads(line) for line in Path("runs/digits/metrics.jsonl").read_text().splitlines()
    ]
    assert [record["epoch"] for record in records] == list(range(1, 51))


def test_a_slow_dry_run_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paradise_cli.cli.progress.SLOW_SECONDS", 0.0)
    result = paradise("train", "digits", "--dry-run", *SMALL)
    assert result.exit_code == 0 and "passes per image" in result.stdout
    assert "measuring a few steps on random data" in result.stderr


def celeba(folder: Path, n: int = 24) -> Path:
    """Random images in CelebA's own layout, with its official kind of split."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(n)]
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (218, 178, 3), dtype=np.uint8)).save(images / name)
    rows = [f"{name} {' '.join(rng.choice(['-1', '1'], 2))}" for name in names]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(n), "Smiling Male", *rows]) + "\n")
    parts = [f"{name} {0 if i < n - 8 else 1 if i < n - 4 else 2}" for i, name in enumerate(names)]
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return folder


def test_celeba_trains_resumes_encodes_and_reconstructs(empty_folder: Path) -> None:
    root = celeba(empty_folder / "celeba")
    command = ["train", "recipes/celeba_mse.yaml", "--device", "cpu", "--out", "run"]
    for change in (f"data.root={root}", "model.backbone.width=4", "objective.tasks.0.head.width=4"):
        command += ["--set", change]
    command += ["--set", "train.epochs=2", "--set", "train.batch_size=8"]
    assert paradise(*command).exit_code == 0
    # As if it had been killed after the first epoch: the second is taken again.
    final = Path("run/model.safetensors").read_bytes()
    Path("run/model.safetensors").unlink()
    last = max(Path("run/checkpoints").glob("step-*"))
    last.unlink()
    result = paradise(*command)
    assert result.exit_code == 0, result.stderr
    assert Path("run/model.safetensors").read_bytes() == final
    images = root / "img_align_celeba"
    assert paradise("encode", images, "--model", "run", "--out", "z.npy").exit_code == 0
    assert np.load("z.npy").shape == (24, 64)
    assert paradise("reconstruct", images, "--model", "run", "--out", "faces").exit_code == 0
    assert len(list(Path("faces").rglob("*.png"))) >= 24
    evaluated = paradise("evaluate", "run", "--json", "--device", "cpu")
    assert json.loads(evaluated.stdout)["n"] == 4


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    never = shutil.ignore_patterns(".git", "*cache*", ".venv", "tests", "benchmarks")

    def left_out(place: str, names: list[str]) -> set[str]:
        # Trainings lie in the root; the package has a room of that name.
        return {*never(place, names), *(["runs"] if Path(place) == ROOT else [])}

    shutil.copytree(ROOT, source, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=source, check=True
    )
    (built,) = (source / "dist").glob("*.whl")
    # What a package index takes without being asked.
    assert built.stat().st_size <= 60e6
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def installed(wheel: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_wheel_finds_its_recipes_and_its_model_in_an_empty_folder(
    wheel: Path, empty_folder: Path
) -> None:
    where = installed(wheel, "-m", "paradise_cli", "recipes", "ls", "--json")
    rows = json.loads(where)
    assert {row["name"] for row in rows} == {
        path.stem for path in (ROOT / "recipes").glob("*.yaml")
    }
    assert all(str(wheel) in row["path"] for row in rows)
    small = ("model.backbone.width=4", "objective.tasks.0.head.width=4", "train.batch_size=2")
    changes = [text for change in small for text in ("--set", change)]
    Image.new("RGB", (40, 30), "white").save("white.png")
    commands = (
        ["train", "recipes/celeba_mse.yaml", "--dry-run", *changes],
        ["encode", "white.png", "--out", "z.npy"],
        ["zoo", "pull", "digits-2d", "--offline"],
        ["evaluate", "digits-2d"],
        ["attack", "digits-2d", "--suite", "quick", "--n", "2", "--audited", "1"],
        ["reproduce", "C1"],
    )
    calls = "".join(f"assert not app({command!r}, standalone_mode=False)\n" for command in commands)
    installed(wheel, "-c", f"from paradise_cli.cli import app\n{calls}")
    assert len(np.load("z.npy")) == 1


def test_a_training_may_skip_unreadable_images_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    folder = save_images(tmp_path / "photos", 30)
    (folder / "cat" / "bad.png").write_text("hello")
    given = [
        "train", "digits", "--set", "data={name: image_folder, size: 12, channels: 1}",
        "--set", f"data.root={folder}", "--set", "model.backbone={name: mlp, hidden: [8]}",
        "--set", "train.epochs=1", "--set", "train.batch_size=8", "--device", "cpu",
    ]  # fmt: skip
    done = paradise(*given, "--out", tmp_path / "stopped")
    assert done.exit_code == 1
    assert "1 of 31 images cannot be read" in done.stderr and "bad.png" in done.stderr
    done = paradise(*given, "--set", "data.skip_unreadable=true", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "note: 1 of 31 images cannot be read and are left out: cat/bad.png" in done.stderr
