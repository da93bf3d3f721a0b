"""Several processes train as one: every term and gradient, at length, and through kills."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from paradise_cli.core.shares import Share

from .share_ranks import CASES

Numbers = dict[str, NDArray[np.float64]]
PARADISE = ["-m", "paradise_cli"]
RECIPE = ["train", "digits", "--set", "train.epochs=8", "--set", "optim.lr=5.0e-4"]


def started(world: int, words: Sequence[str], rank: int, port: int) -> "subprocess.Popen[str]":
    """One of so many processes, as torchrun starts it."""
    own = {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | own | meeting,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def together(world: int, words: Sequence[str]) -> list[tuple[int, str]]:
    """Run so many processes; the exit code and stderr of each."""
    port = free_port()
    ranks = [started(world, words, rank, port) for rank in range(world)]
    said = [each.communicate(timeout=150)[1] for each in ranks]
    return [(each.returncode, text) for each, text in zip(ranks, said, strict=True)]


def found(what: str, folder: Path, world: int) -> list[Numbers]:
    """What each of so many processes finds, by `share_ranks`."""
    done = together(world, ["-m", "tests.share_ranks", what, str(folder)])
    assert [code for code, _ in done] == [0] * world, done
    return [dict(np.load(folder / f"{what}-{world}-{rank}.npz")) for rank in range(world)]


def apart(one: Numbers, other: Numbers) -> dict[str, float]:
    """The largest difference of each array, relative to its largest number."""
    assert one.keys() == other.keys()
    return {
        name: float(np.abs(value - other[name]).max()) / (float(np.abs(value).max()) or 1.0)
        for name, value in one.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder: Path) -> Numbers:
    (only,) = found("steps", folder, 1)
    return only


@pytest.fixture(scope="module")
def whole(folder: Path) -> Numbers:
    (only,) = found("whole", folder, 1)
    return only


@pytest.mark.parametrize("world", [2, 3, 4])
def test_every_term_and_gradient_is_that_of_one_process(
    world: int, folder: Path, alone: Numbers
) -> None:
    """All rates and gradient modes, tasks, views and few labels; 24 images a batch, and 25."""
    assert {name.partition(",")[0].partition(":")[0] for name in alone} >= {
        name.partition(",")[0] for name in CASES
    }
    for each in found("steps", folder, world):
        worst = apart(alone, each)
        wrong = {name: value for name, value in worst.items() if not value < 1e-12}
        assert not wrong, wrong


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_batch_in_two_parts_is_the_batch_at_once(
    world: int, folder: Path, whole: Numbers
) -> None:
    for each in found("parts", folder, world):
        worst = apart(whole, each)
        # Scales are those of the images that are computed together; nothing is trained by them.
        wrong = {name for name, value in worst.items() if not value < 1e-12}
        assert {name for name in wrong if "scale_free" not in name} == set(), worst


def test_thirty_steps_with_momentum_and_averaged_weights(folder: Path) -> None:
    (one,) = found("lengthy", folder, 1)
    assert any(name.startswith("average") for name in one)
    for each in found("lengthy", folder, 3):
        assert max(apart(one, each).values()) < 1e-10


def test_an_evaluation_is_that_of_one_process(folder: Path) -> None:
    (one,) = found("measured", folder, 1)
    assert one["0"].shape == (360, 2) and one["2"].shape == (2, 360)
    for each in found("measured", folder, 3):
        assert apart(one, each).keys() == one.keys()
        assert all(np.array_equal(value, each[name]) for name, value in one.items())


@pytest.mark.parametrize("total", [4, 7, 24])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_shares_are_a_partition_and_their_means_add_up(total: int, world: int) -> None:
    shares = [Share(total, rank, world) for rank in range(world)]
    rows = [row for share in shares for row in range(total)[share.rows]]
    assert rows == list(range(total))
    values = torch.arange(2 * total, dtype=torch.float64).view(total, 2)
    means = [share.mean(values[share.rows]) for share in shares]
    assert float(sum(means)) == pytest.approx(total - 0.5, rel=1e-15)


def record(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train"] for line in lines]


def command(out: Path, *more: str) -> list[str]:
    return [*PARADISE, *RECIPE, "--out", str(out), *more]


def test_a_killed_training_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    done = subprocess.run([sys.executable, *command(whole)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    port = free_port()
    ranks = [started(3, command(run), rank, port) for rank in range(3)]
    while not (run / "metrics.jsonl").exists() or len(record(run)) < 4:
        time.sleep(0.01)
        assert all(each.poll() is None for each in ranks)
    ranks[1].send_signal(signal.SIGKILL)
    said = [each.communicate(timeout=30)[1] for each in ranks]
    assert [each.returncode for each in ranks] == [1, -signal.SIGKILL, 1], said
    assert "another process has ended" in said[0] and "Traceback" not in "".join(said)
    assert len(record(run)) < 8
    on = together(2, command(run))
    assert [code for code, _ in on] == [0, 0], on
    assert "processes 3 -> 2" in on[0][1]
    # In float32 sums round in another order, and what comes of that grows with each epoch.
    allowed = [1e-4, *[0.03] * 7]
    for one, other, rel in zip(record(whole), record(run), allowed, strict=True):
        assert other == pytest.approx(one, rel=rel)
    results = [json.loads((each / "result.json").read_text()) for each in (whole, run)]
    accuracies = [each["test"]["classification"][0]["top1"]["value"] for each in results]
    assert abs(accuracies[0] - accuracies[1]) <= 5 / 360
    left = [sorted(each.name for each in root.iterdir()) for root in (run, whole)]
    assert left[0] == left[1]
    checkpoints = {each.name.partition("-")[0] for each in (run / "checkpoints").iterdir()}
    assert checkpoints == {"step", "best.safetensors"}
    assert (run / "recipe.yaml").read_bytes() == (whole / "recipe.yaml").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_no_thread_outlives_what_ends_the_group() -> None:
    """One that lets go of a tensor while Python is taken down would abort the process."""
    lines = [
        "import os; from pathlib import Path; import torch",
        "from paradise_cli.core.processes import any_process, join",
        "join(); any_process(True)",
        "named = lambda: [p.read_text() for p in Path('/proc/self/task').glob('*/comm')]",
        "assert any('gloo' in name for name in named()), named()",
        # To make one imports much of torch.
        "torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)",
        "torch.distributed.destroy_process_group()",
        "assert not any('gloo' in name for name in named()), named()",
        "os._exit(0)",
    ]
    done = together(2, ["-c", "\n".join(lines)])
    assert [code for code, _ in done] == [0, 0], done


def test_processes_that_would_train_different_things_are_told_apart(tmp_path: Path) -> None:
    port = free_port()
    one = command(tmp_path / "run")
    both = [one, [*one, "--set", "objective.alpha=0.2"]]
    ranks = [started(2, words, rank, port) for rank, words in enumerate(both)]
    said = [each.communicate(timeout=60)[1] for each in ranks]
    assert ranks[1].returncode == 2 and "process 1 on" in said[1], said
    assert "has another recipe than the main process" in said[1]
    assert ranks[0].returncode == 2 and "another process was told something else" in said[0]


def test_certificates_on_other_noise_are_not_mixed(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    words = "certify digits-2d --sigma 0.25 --n 3 --samples 200 --n0 20 --out".split()
    one = [*PARADISE, *words, str(out)]
    both = [one, [*one, "--seed", "3"]]
    ranks = [started(2, each, rank, port) for rank, each in enumerate(both)]
    said = [each.communicate(timeout=150)[1] for each in ranks]
    assert [each.returncode for each in ranks] == [2, 2], said
    assert "has another seed than the main process" in said[1]
    assert not out.exists()


def test_who_waits_for_a_process_that_never_comes_can_be_stopped(tmp_path: Path) -> None:
    port = free_port()
    waiting = started(2, command(tmp_path / "run"), 0, port)
    # Once somebody listens there, its meeting has begun.
    while not listens(port):
        time.sleep(0.05)
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGTERM)
    said = waiting.communicate(timeout=60)[1]
    assert waiting.returncode == 75 and "the same command begins again" in said


def test_who_ends_since_another_was_told_to_ends_alike(tmp_path: Path) -> None:
    run, port = tmp_path / "run", free_port()
    ranks = [started(2, command(run), rank, port) for rank in range(2)]
    while not (run / "metrics.jsonl").exists() or not record(run):
        time.sleep(0.01)
        assert all(each.poll() is None for each in ranks)
    ranks[1].send_signal(signal.SIGTERM)
    said = [each.communicate(timeout=60)[1] for each in ranks]
    assert [each.returncode for each in ranks] == [75, 75], said


def test_evaluate_prints_once_what_one_process_finds(tmp_path: Path) -> None:
    words = [*PARADISE, "evaluate", "digits-2d", "--json", "--out"]
    results = [tmp_path / f"{world}.json" for world in (1, 2)]
    for world, path in enumerate(results, 1):
        done = together(world, [*words, str(path)])
        assert [code for code, _ in done] == [0] * world, done
    assert results[0].read_bytes() == results[1].read_bytes()
    assert done[1][1] == ""


def test_what_processes_do_not_share_the_main_one_does(tmp_path: Path) -> None:
    out = tmp_path / "z.npy"
    done = together(
        2, [*PARADISE, "encode", "digits:test", "--model", "digits-2d", "--out", str(out)]
    )
    assert [code for code, _ in done] == [0, 0] and done[1][1] == "", done
    written = sorted(each.name for each in tmp_path.iterdir() if each.name[0] != ".")
    assert written == ["z.index.csv", "z.npy"]
    assert np.load(out).shape == (360, 2)


def test_certificates_and_embeddings_are_those_of_one_process(tmp_path: Path) -> None:
    """Also where some images are on record already, and where one process has none left."""
    words = "certify digits-2d --sigma 0.25 --n 7 --samples 300 --n0 20".split()
    one, three = tmp_path / "one", tmp_path / "three"
    alone = [*PARADISE, *words, "--out", str(one)]
    done = subprocess.run([sys.executable, *alone], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ledger = (one / "ledger.jsonl").read_bytes()
    three.mkdir()
    (three / "ledger.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:4]))
    shared = together(3, [*PARADISE, *words, "--out", str(three)])
    assert [code for code, _ in shared] == [0, 0, 0] and shared[1][1] == "", shared
    assert (three / "ledger.jsonl").read_bytes() == ledger
    assert (three / "certificate.csv").read_bytes() == (one / "certificate.csv").read_bytes()

    out = {world: tmp_path / f"z{world}" / "z.npz" for world in (1, 3)}
    for world, path in out.items():
        path.parent.mkdir()
        encode = ["encode", "digits:test", "--model", "digits-2d", "--parts", "50"]
        both = together(world, [*PARADISE, *encode, "--out", str(path)])
        assert [code for code, _ in both] == [0] * world, both
    files = [
        {each.name: each.read_bytes() for each in path.parent.iterdir() if each.name[0] != "."}
        for path in out.values()
    ]
    assert files[0] == files[1] and len(files[0]) == 2 * 8 + 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch_size=2"], "3 processes and batches of 2: each needs an image of every"),
        (["train.compile=true"], "a graph cannot wait for 3 processes"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    words = [word for override in overrides for word in ("--set", override)]
    done = together(3, command(tmp_path / "run", *words))
    assert [code for code, _ in done] == [2, 2, 2]
    assert all(message in said for _, said in done)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
