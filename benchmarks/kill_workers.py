"""kill -9 the workers of a sweep, and their trainings, at 10 random moments; compare the result.

    python benchmarks/kill_workers.py

12 points, 4 workers on one folder, as the jobs of an array are. Moments are numbers of epochs that
all points have together. At each dies a worker, a training of one, or all workers at once; what was
killed is started again, as a scheduler does. At the end every file is compared with that of an
uninterrupted sweep, except for what `TIMES` and `HOW` leave out. Linux only: it looks into /proc.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from timing import finish, machine, options, report

POINTS, EPOCHS, WORKERS = 12, 60, 4
KINDS = ("a worker", "a training", "all workers")
END = 20.0
"""Seconds within which the training of a killed worker must be gone."""

TIMES = {"seconds"}
"""Keys of JSON that are left out."""

HOW = {".lock", "log.txt", "checkpoints"}
"""Names that are left out: locks, what was said on the way, states to go on from."""

# Saved every 0.3 seconds, so that most kills find something to go on from.
SETTINGS = [f"train.epochs={EPOCHS}", "train.checkpoint_minutes=0.005", "data.validation=0.0"]


def command(folder: Path, *more: str) -> list[str]:
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["sweep", "digits", "--alpha", f"0.001:0.3:{POINTS}", *words, "--out", str(folder)]
    return [sys.executable, "-m", "paradise_cli", *words, "--device", "cpu", *more]


class Array:
    """The workers of one folder, as a scheduler keeps them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self.finished: dict[Path, tuple[int, int]] = {}
        self.workers = [self._start() for _ in range(WORKERS)]

    def _start(self) -> subprocess.Popen[str]:
        words = command(self.folder, "--jobs", "1", "--worker")
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def trainings(self, of: int | None = None) -> list[int]:
        """Processes that train a point, or those that a worker has started."""
        found = processes(lambda words: str(self.folder / "points") in " ".join(words))
        return [number for number, parent in found.items() if of in (None, parent)]

    def kill(self, what: str, draw: random.Random) -> bool:
        """kill -9 what is named, if anything is trained, and start it anew, as schedulers do."""
        running = [each for each in self.workers if each.poll() is None]
        trained = [(each, number) for each in running for number in self.trainings(each.pid)]
        if not trained:
            return False
        chosen, training = draw.choice(trained)
        if what == "a training":
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(training, signal.SIGKILL)
            return True
        dying = running if what == "all workers" else [chosen]
        orphans = [number for each, number in trained if each in dying]
        for each in dying:
            each.kill()
        for each in dying:
            each.communicate()
        if not within(END, lambda: not set(orphans) & {*self.trainings()}):
            self.faults.append(f"{what}: a training outlives its worker by {END:g} s")
        self.workers = [self._start() if each in dying else each for each in self.workers]
        return True

    def epochs(self) -> int:
        """Epochs of all points that are done."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.rglob("metrics.jsonl"))

    def watch(self) -> None:
        """What is done must stay as it is."""
        for path in self.folder.glob("points/*/result.json"):
            status = path.stat()
            now = (status.st_ino, status.st_mtime_ns)
            if self.finished.setdefault(path, now) != now:
                self.faults.append(f"{path.parent.name} is trained again")
                self.finished[path] = now

    def end(self) -> list[str]:
        """Let all finish; what each prints."""
        said = [each.communicate(timeout=600) for each in self.workers]
        for each, (_, errors) in zip(self.workers, said, strict=True):
            if each.returncode != 0:
                self.faults.append(f"a worker ends with {each.returncode}: {errors[-300:]}")
        self.watch()
        return [table for table, _ in said]


def processes(wanted: Callable[[list[str]], bool]) -> dict[int, int]:
    """Numbers of processes by their command line, and their parents; none that has ended."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if wanted(words):
            found[int(folder.name)] = parent
    return found


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return holds()


def content(path: Path) -> Any:
    """What is compared of a file: all, of JSON all but times."""
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()

    def kept(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if key not in TIMES}

    parts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(part, object_hook=kept) for part in parts]


def files(folder: Path) -> dict[str, Path]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not HOW & {*Path(name).parts}}


def differences(whole: Path, killed: Path) -> list[str]:
    """Files that only one of two sweeps has, and those that differ."""
    one, other = files(whole), files(killed)
    found = [f"only one has {name}" for name in sorted(one.keys() ^ other.keys())]
    shared = sorted(one.keys() & other.keys())
    return found + [
        f"{name} differs" for name in shared if content(one[name]) != content(other[name])
    ]


def killed_sweep(folder: Path, kills: int, seed: int) -> tuple[Array, list[str]]:
    """The workers of a sweep at whose points something was killed, and what that was."""
    draw = random.Random(seed)
    array, killed = Array(folder), list[str]()
    for moment in sorted(draw.sample(range(1, POINTS * EPOCHS - 1), kills)):
        kind = draw.choice(KINDS)
        while array.epochs() < moment or not array.kill(kind, draw):
            array.watch()
            time.sleep(0.05)
        killed.append(kind)
        print(f"        epoch {moment}: kill -9 of {kind}", flush=True)
    return array, killed


if __name__ == "__main__":
    chosen = options(__doc__, kills=10, seed=0)
    machine()
    # A result says how many threads it was computed with.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        whole, folder = Path(temporary) / "whole", Path(temporary) / "killed"
        alone = subprocess.run(command(whole), check=True, text=True, stdout=subprocess.PIPE)
        array, killed = killed_sweep(folder, chosen.kills, chosen.seed)
        tables = array.end()
        faults = array.faults + differences(whole, folder)
        faults += ["a worker prints another table"] * sum(each != alone.stdout for each in tables)
        left = processes(lambda words: temporary in " ".join(words))
        resumed = sum("going on" in log.read_text() for log in folder.rglob("log.txt"))
    print(f"{resumed} points went on from a checkpoint; faults: {faults or 'none'}")
    report("kills", len(killed), chosen.kills, at_least=True)
    report("points that were finished, each once", len(array.finished), POINTS, at_least=True)
    report("processes left over", len(left), 0, at_least=False)
    report("faults", len(faults), 0, at_least=False)
    what = "kill -9 of a sweep's workers and trainings at random moments, started again each time"
    finish(chosen, what=what, data="digits", seed=chosen.seed)
    sys.exit(1 if faults or left else 0)
