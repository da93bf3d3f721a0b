"""Commands killed before one of their file operations, and run again to the end."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign.child import run
from tests.campaign.kinds import ATTACK, ENCODE, TRAIN
from tests.fake_hub import COMMIT, running

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link")

FOLDER = "data={name: image_folder, root: classes, size: 8, channels: 1}"


@dataclass(frozen=True)
class Killed:
    """A command, what it leaves, and the folders of the base that it begins without."""

    name: str
    arguments: Sequence[str]
    results: Sequence[str]
    without: Sequence[str] = ()


COMMANDS = [
    Killed("train", TRAIN, ["run/model.safetensors"], ["run"]),
    Killed("train on a folder", [*TRAIN, "--set", FOLDER, "--set", "train.epochs=1"],
           ["run/model.safetensors"], ["run"]),
    Killed("train on copies", ["train", "near_duplicates", "--set", "data.root=images",
                               "--set", "train.epochs=1", "--out", "run", "--device", "cpu"],
           ["run/model.safetensors"], ["run"]),
    # Its report and its images say how many seconds it took.
    Killed("attack", ATTACK, ["attacked/points.f32", "attacked/ledger.jsonl"], ["attacked"]),
    Killed("encode", ENCODE, ["z.npy", "z.index.csv"], ["z.npy", "z.index.csv", ".z.npy.origin"]),
    Killed("encode in parts", [*ENCODE, "--parts", "2"],
           ["z-00001-of-00003.npy", "z-00002-of-00003.index.csv", "z.parts.json"]),
    Killed("predict", ["predict", "images", "--model", "run", "--out", "p.csv"], ["p.csv"]),
    Killed("evaluate", ["evaluate", "run", "--out", "e.json"], ["e.json"]),
    Killed("rd", ["rd", "bernoulli", "--points", "3", "--out", "curves"],
           ["curves/curve.csv", "curves/curve.json"]),
    Killed("rate", ["rate", "posteriors.npz", "--out", "r.json"], ["r.json"]),
    Killed("sweep", ["sweep", "small.yaml", "--alpha", "0.05,0.1", "--out", "swept",
                     "--set", "train.epochs=1", "--jobs", "2", "--device", "cpu"],
           ["swept/sweep.csv", "swept/points/alpha=0.1/model.safetensors"]),
    Killed("reproduce", ["reproduce", "C4", "X4", "--claims", "ledger", "--out", "reproduced",
                         "--jobs", "2", "--device", "cpu"],
           ["ledger/C4.yaml", "ledger/X4.yaml", "ledger/smoke.md"]),
    Killed("reconstruct", ["reconstruct", "images", "--model", "fashion-mnist-2d-unsupervised",
                           "--out", "drawn", "--device", "cpu"],
           ["drawn/index.csv", "drawn/grid.png", "drawn/000005-5.png"]),
    Killed("pull", ["zoo", "pull", "org/model"],
           [f"cache/hub/models--org--model/snapshots/{COMMIT}/model.safetensors"]),
]  # fmt: skip


def watched(place: Path, seen: Callable[[int], None]) -> Callable[[], None]:
    """What makes a process call `seen` with a number before each change of a file in a folder."""

    def begin() -> None:
        keep_within(place)
        count = 0

        def hook(event: str, given: tuple[Any, ...]) -> None:
            nonlocal count
            writes = event == "open" and isinstance(given[2], int) and given[2] & WRITING
            inside = isinstance(given[0], str | os.PathLike) if given else False
            if (writes or event in CHANGES) and inside and str(place) in os.path.abspath(given[0]):
                count += 1
                seen(count)

        sys.addaudithook(hook)

    return begin


def keep_within(place: Path) -> None:
    """What is kept for later calls is kept in the folder too, and is killed like the rest."""
    os.environ["PARADISE_CACHE"] = str(place / "cache")


@contextmanager
def reachable_hub(place: Path) -> Iterator[None]:
    """A hub with a model, for the processes that are started meanwhile."""
    with running() as hub:
        weights = (place / "run" / "model.safetensors").read_bytes()
        hub.files = {"model.safetensors": weights, "config.json": b"{}"}
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "nobody")}
        yield


def operations(command: Killed, base: Path, place: Path) -> int:
    """How many changes of files the command makes."""
    begun(command, base, place)
    counter = place.parent / "count"

    def note(count: int) -> None:
        descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, str(count).encode())
        os.close(descriptor)

    outcome = run(command.arguments, place, watched(place, note))
    if outcome.code != 0:
        raise RuntimeError(f"{command.name} fails: {outcome.stderr}")
    return int(counter.read_text())


def survived(command: Killed, base: Path, place: Path, whole: Path, at: int) -> str:
    """What is wrong after a kill before change `at` and the same command again; "" for nothing."""
    begun(command, base, place)

    def end(count: int) -> None:
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(command.arguments, place, watched(place, end))
    if not _all_ended(place):
        return "processes that it started go on"
    return not_as_whole(command, place, whole)


def not_as_whole(command: Killed, place: Path, whole: Path) -> str:
    """What is wrong after the command was run again to its end; "" for nothing."""
    again = run(command.arguments, place, partial(keep_within, place))
    if again.code != 0:
        return f"exit code {again.code}: {again.stderr.strip()[-200:]}"
    for name in command.results:
        if (place / name).read_bytes() != (whole / name).read_bytes():
            return f"another {name}"
    return unfinished(place)


def unfinished(place: Path) -> str:
    """The unfinished files in a folder, as a complaint."""
    left = [str(path.relative_to(place)) for path in place.rglob("*.tmp")]
    return f"left behind: {', '.join(left)}" if left else ""


def _all_ended(place: Path, seconds: float = 30) -> bool:
    """Whether after some seconds at most no process is left that works in a folder."""
    until = time.monotonic() + seconds
    while _working_in(place):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _working_in(place: Path) -> list[str]:
    """Numbers of processes, also of those that have a session of their own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # It may have ended since, or be somebody else's.
        with suppress(OSError):
            if Path(os.readlink(process / "cwd")) == place:
                found.append(process.name)
    return found


def begun(command: Killed, base: Path, place: Path) -> None:
    """The folder as it is before the command; it may be a disk, which cannot be removed."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place, dirs_exist_ok=True)
    for name in command.without:
        target = place / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
