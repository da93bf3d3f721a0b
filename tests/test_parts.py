"""Embeddings in parts: one result, whoever writes them and however often they are stopped."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.numpy import load_file
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.locks import Claims
from paradise_cli.inference.encoding import Encoded, encode_to_file, index_path
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.inference.parts import Parts, encode_in_parts

from .tiny_model import save_images, save_tiny

COUNT, SIZE = 23, 5
UNREADABLE = [3, 10, 11, 12, 13, 14]  # one of the first part, and the whole third
HOLDER = """\
import sys
from pathlib import Path
from paradise_cli.core.locks import Claims
with Claims(Path(sys.argv[1])) as claims, claims.taken(0) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_images(tmp_path_factory.mktemp("images") / "photos", COUNT)
    files = sorted(folder.rglob("*.png"))
    assert len(files) == COUNT
    for number in UNREADABLE:
        files[number].write_text("no image")
    return folder


def silent(_: object) -> None:
    pass


def write(
    model: LoadedModel, photos: Path, out: Path, *, size: int = SIZE, **options: Any
) -> Encoded:
    given: dict[str, Any] = {"samples": 0, "features": False, "progress": silent, "say": silent}
    return encode_in_parts(model, model.open(photos), out, {}, size=size, **given | options)


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".npy":
        return {"": np.load(path)}
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    if path.suffix == ".parquet":
        columns = parquet.read_table(path).to_pydict()
        return {name: np.array(values) for name, values in columns.items()}
    with np.load(path) as archive:
        return dict(archive)


def index(path: Path) -> list[list[str]]:
    with index_path(path).open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize("name", ["z.npy", "z.npz", "z.parquet", "z.safetensors"])
def test_parts_are_the_rows_of_the_whole(
    model: LoadedModel, photos: Path, tmp_path: Path, name: str
) -> None:
    """Draws and a part without any readable image included."""
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    expected = encode_to_file(model, model.open(photos), whole, samples=2, seed=7)
    done = write(model, photos, tmp_path / name, samples=2, seed=7)
    assert done.rows == COUNT - len(UNREADABLE) and done.skipped == expected.skipped
    paths = Parts(tmp_path / name, COUNT, SIZE).paths
    suffix = Path(name).suffix
    assert [path.name for path in paths] == [f"z-0000{k}-of-00005{suffix}" for k in range(5)]
    found = [arrays(path) for path in paths]
    for key, value in arrays(whole).items():
        # A part without rows has no strings to tell a width by.
        joined = np.concatenate([part[key].astype(value.dtype) for part in found if len(part[key])])
        np.testing.assert_array_equal(joined, value)
    # Rows are counted within each part; paths and errors are those of the whole.
    lines = [line[1:] for path in paths for line in index(path)]
    assert lines == [line[1:] for line in index(whole)]
    manifest = json.loads((tmp_path / "z.parts.json").read_text())
    assert [part["rows"] for part in manifest["parts"]] == [4, 5, 0, 5, 3]
    assert [part["images"] for part in manifest["parts"]] == [5, 5, 5, 5, 3]
    assert [each["path"] for each in manifest["unreadable"]] == [path for path, _ in done.skipped]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_a_part_that_another_process_writes_is_waited_for_and_taken_over(
    model: LoadedModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(model, photos, tmp_path / "one" / "z.npy")
    out = tmp_path / "two" / "z.npy"
    given = [sys.executable, "-c", HOLDER, str(out.with_name(".z.npy.claims"))]
    holder = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"True\n"
    said, left = [], out.with_name(".z-00000-of-00005.npy.0123abcd.tmp")

    def kill(text: str) -> None:
        said.append(text)
        left.mkdir()  # as it leaves what it was writing
        holder.kill()

    write(model, photos, out, say=kill)
    holder.communicate()
    assert said == ["1 part being written by others; waiting for them"]
    assert holder.returncode < 0 and not left.exists()
    once, again = content(tmp_path / "one"), content(tmp_path / "two")
    written = [name for name in once if not name.startswith(".")]
    assert written == [name for name in again if not name.startswith(".")] and len(written) == 11
    assert [once[name] for name in written] == [again[name] for name in written]


def test_what_is_finished_is_not_computed_again(
    model: LoadedModel, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "z.npy"
    write(model, photos, out)
    paths = Parts(out, COUNT, SIZE).paths
    before = [path.stat().st_ino for path in paths]
    # As it is while a part is being replaced.
    index_path(paths[1]).unlink()
    counted: list[int] = []
    write(model, photos, out, progress=counted.append)
    after = [path.stat().st_ino for path in paths]
    assert [k for k in range(5) if before[k] != after[k]] == [1]
    assert sum(counted) == COUNT


@pytest.mark.parametrize(("more", "code"), [((), 143), (("--parts", "2"), 75)])
def test_a_scheduler_is_told_that_parts_go_on_before_there_are_any(
    more: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*given: Any, **named: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)  # as the handler of SIGTERM does

    monkeypatch.setattr("paradise_cli.cli.encode.load_and_say", ends)
    words = ["encode", str(tmp_path), "--out", str(tmp_path / "z.npy"), *more]
    assert CliRunner().invoke(app, words).exit_code == code


def test_parts_of_another_result_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = save_tiny(tmp_path / "tiny.safetensors")

    def run(*more: object) -> tuple[int, str]:
        words = ["encode", photos, "--model", tiny, "--out", "z.npy", "--parts", *more]
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, done.stderr

    code, said = run(SIZE)
    assert code == 1 and "z.npy: 17 rows of 3 dimensions; manifest: z.parts.json" in said
    code, said = run(SIZE, "--samples", 2)
    assert code == 2
    assert "z.parts.json holds another result, made with other samples (none, now 2)" in said
    code, said = run(10)
    assert code == 2 and "z-00000-of-00005.npy is a part of another result: remove 5 files" in said
    save_tiny(tiny, latent_dim=2)
    code, said = run(SIZE)
    assert code == 2 and "made with other weights" in said
    assert run(SIZE, "--overwrite")[0] == 1 and np.load("z-00000-of-00005.npy").shape == (4, 2)


def test_a_number_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "claims"
    given = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"True\n"
        with Claims(path) as claims:
            with claims.taken(0) as mine, claims.taken(1) as other:
                assert (mine, other) == (False, True)
            holder.stdin.close()
            holder.wait()
            with claims.taken(0) as mine:
                assert mine
