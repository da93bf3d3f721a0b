"""The runs of a sweep, side by side: each is an ordinary training in a process of its own."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paradise_cli.build import build_data, listed_folders
from paradise_cli.core.errors import Interrupted, ParadiseError, Requeued, UsageError
from paradise_cli.core.locks import Busy, locked
from paradise_cli.core.machine import choose_device
from paradise_cli.core.results import refuse_among, refuse_foreign
from paradise_cli.core.signals import stop_on_signal
from paradise_cli.core.storage import file_digest, read_object
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.estimate import planned_epochs
from paradise_cli.sweep.data import refuse_other_data
from paradise_cli.sweep.plan import SweepPoint
from paradise_cli.sweep.processes import Running, interrupt, start
from paradise_cli.training.run_folder import EPOCHS, FREE, RunFolder, flat

POLL_SECONDS = 0.2
MOST_KILLS = 3
"""How often a point goes on that was killed: what takes too much memory is killed each time."""


@dataclass(frozen=True)
class FinishedRun:
    """A point's run: what `paradise evaluate` says of it, or why there is nothing to say."""

    point: SweepPoint
    folder: Path
    evaluation: dict[str, Any] | None
    error: str | None = None


def run_points(
    points: Sequence[SweepPoint],
    folder: Path,
    *,
    split: str = "test",
    device: str = "auto",
    jobs: int | None = None,
    worker: bool = False,
    going_on: bool = False,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[FinishedRun]:
    """Train and evaluate every point in `folder`, going on where an earlier sweep there stopped.

    A point that fails leaves the others alone. `jobs` is how many run at a time: by default as many
    as there are GPUs, else processor cores, which they share. `progress` is called with how many
    epochs are done, `say` with a line for each point that another process trains, which is waited
    for. Several that are each a `worker` share the points of a folder, and end with the same.
    `going_on` allows points more epochs than they were begun with, as a training is allowed them.
    Raises UsageError where the folder holds runs of other recipes or the data lack the split, Busy
    where another sweep works there, Interrupted after a signal, when every run has saved its state.
    """
    # What would fail in every run is said once, before the first.
    choose_device(device)
    if getattr(build_data(points[0].recipe), split) is None:
        raise UsageError(
            f"{points[0].recipe.data.name} has no {split} split; choose another with --split"
        )
    runs = [RunFolder(folder / "points" / point.name) for point in points]
    waiting = list(zip(points, runs, strict=True))
    refuse_among(folder, listed_folders(points[0].recipe))
    refuse_foreign(folder, ("sweep*.csv", "sweep*.json", "frontier*.png"), "points")
    with locked(folder, "sweep", "sweep", shared=worker):
        more = _begin(waiting, going_on)
        slots = environments(len(points), device, jobs)
        errors: dict[str, str] = {}
        _run_all(_Waiting(waiting, split, device, say, more), slots, errors, progress)
        # What failed here another worker may have finished.
        return [
            FinishedRun(point, run.path, None, errors[point.name])
            if point.name in errors and _to_do(run, split, device) is not None
            else finished_run(point, run, split)
            for point, run in zip(points, runs, strict=True)
        ]


def _begin(points: Sequence[tuple[SweepPoint, RunFolder]], going_on: bool) -> dict[str, list[str]]:
    """Write the recipes of new points; what to change in those of others that go on, by name.

    Raises UsageError, and leaves the folder as it was, where one was begun by another recipe or on
    other data.
    """
    more: dict[str, list[str]] = {}
    longer: list[RunFolder] = []
    for point, run in points:
        if not run.recipe.exists():
            continue
        before, now = load_recipe(str(run.recipe)).recipe.resolved(), point.recipe.resolved()
        run.refuse_change(before, now, remedy="choose another --out", going_on=going_on)
        old, new = flat(before), flat(now)
        # The training itself writes them down, with what they were before.
        changed = [key for key in (EPOCHS, *FREE) if going_on and old.get(key) != new.get(key)]
        settings = [f"{key}={json.dumps(new.get(key))}" for key in changed]
        more[point.name] = [word for each in settings for word in ("--set", each)]
        if EPOCHS in changed:
            longer.append(run)
    refuse_other_data(points)
    for point, run in points:
        run.keep_recipe(point.recipe.resolved())
    # It is that of the shorter training: with it, a point is taken for finished.
    for run in longer:
        run.result.unlink(missing_ok=True)
    return more


def _run_all(
    waiting: "_Waiting",
    slots: list[dict[str, str]],
    errors: dict[str, str],
    progress: Callable[[int], None] | None,
) -> None:
    """Keep every slot busy until all is done.

    `errors` gets the reasons of the points that failed.
    """
    planned = [(run, planned_epochs(point.recipe)) for point, run in waiting.points]
    reported = 0  # epochs
    running: list[Running] = []
    with stop_on_signal() as stop:
        try:
            while (waiting.points or running) and not stop():
                for slot in sorted(set(range(len(slots))) - {job.slot for job in running}):
                    if job := waiting.start_next(slot, slots[slot]):
                        running.append(job)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    # There may be an evaluation to do, or somebody else was faster.
                    ended = job.process.returncode == 0 or waiting.is_elsewhere(job.run)
                    if ended or waiting.goes_on(job):
                        waiting.points.insert(0, (job.point, job.run))
                    else:
                        errors[job.point.name] = job.reason
                    job.close()
                done = sum(min(_epochs(run), most) for run, most in planned)
                # A resumed run takes some epochs again: progress never goes back.
                if progress and done > reported:
                    progress(done - reported)
                    reported = done
                if running or waiting.points:
                    time.sleep(POLL_SECONDS)
        # Also after an error of our own: no process may be left behind.
        finally:
            interrupt(running)
        if stop():
            raise Interrupted("every run is saved, and the same command goes on from there")


class _Waiting:
    """The points that are not finished, and what each of them takes next."""

    def __init__(
        self,
        points: list[tuple[SweepPoint, RunFolder]],
        split: str,
        device: str,
        say: Callable[[str], None] | None,
        more: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.points = points
        self._more = more or {}
        self._split, self._device, self._say = split, device, say
        self._told = set[str]()
        self._kills = Counter[str]()

    def start_next(self, slot: int, environment: dict[str, str]) -> Running | None:
        """Start what is to do for the first point that is not finished and that nobody trains."""
        for item in list(self.points):
            point, run = item
            arguments = _to_do(run, self._split, self._device)
            # As one that a killed sweep has left, which is about to save its state.
            if arguments is not None and _busy(run):
                self._tell(point)
                continue
            self.points.remove(item)
            if arguments is not None:
                if arguments[0] == "train":
                    arguments += self._more.get(point.name, [])
                return start(point, run, arguments, slot, environment)
        return None

    # Of two that begin at once one finds the folder taken: that is no failure of the point.
    def is_elsewhere(self, run: RunFolder) -> bool:
        """Whether another process trains the run, or has just finished it."""
        return _busy(run) or _to_do(run, self._split, self._device) is None

    def goes_on(self, job: Running) -> bool:
        """Whether a run is to be started again, since a signal ended it or another process had it.

        That one may have ended since, without a result.
        """
        if job.found_taken:
            return True
        if job.process.returncode != Requeued.exit_code and job.signal is None:
            return False
        self._kills[job.point.name] += 1
        return self._kills[job.point.name] <= MOST_KILLS

    def _tell(self, point: SweepPoint) -> None:
        if self._say is not None and point.name not in self._told:
            self._told.add(point.name)
            self._say(f"{point.name}: another process trains it; waiting for that")


def _to_do(run: RunFolder, split: str, device: str) -> list[str] | None:
    """Arguments of the next command for a run, None where it is trained and evaluated."""
    if not _has_result(run):
        return ["train", str(run.recipe), "--out", str(run.path), "--device", device, "--json"]
    if split == "test" or _measured(run, split) is not None:
        return None
    # Where it stands and cannot be read, it is in the way of its like.
    file = str(_evaluation_file(run, split))
    options = ["--split", split, "--device", device, "--out", file, "--overwrite"]
    return ["evaluate", str(run.path), *options, "--json"]


def _has_result(run: RunFolder) -> bool:
    """Whether there is a result, and it is that of the recipe there: not of another point."""
    found = read_object(run.result)
    # Older versions did not say of which recipe a result is.
    return found is not None and found.get("recipe_sha256") in (None, file_digest(run.recipe))


def _evaluation_file(run: RunFolder, split: str) -> Path:
    return run.path / f"evaluation-{split}.json"


def _measured(run: RunFolder, split: str) -> dict[str, Any] | None:
    """What a run says of a split, if it does.

    A training ends with an evaluation on its test images, or where it has none on its validation
    images; other splits take a command of their own.
    """
    found = (read_object(run.result) or {}).get(split)
    return found if isinstance(found, dict) else read_object(_evaluation_file(run, split))


def finished_run(point: SweepPoint, run: RunFolder, split: str) -> FinishedRun:
    """The point whose training and evaluation are the run's, or why there is nothing to say."""
    measured = _measured(run, split)
    if measured is None or "distortion" not in measured:
        file = run.result if split == "test" else _evaluation_file(run, split)
        reason = f"{file} holds no measurement; move it away, and the same command makes it anew"
        return FinishedRun(point, run.path, None, reason)
    return FinishedRun(point, run.path, measured)


def _busy(run: RunFolder) -> bool:
    """Whether another process trains the run."""
    try:
        with run.locked():
            return False
    except Busy:
        return True
    except ParadiseError:
        return False  # the training itself says what is wrong there


def _epochs(run: RunFolder) -> int:
    try:
        return run.metrics.read_bytes().count(b"\n")
    except OSError:
        return 0


def environments(points: int, device: str, jobs: int | None) -> list[dict[str, str]]:
    """For each run at a time, the variables that give it its share of the machine."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1 is needed")
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if gpus:
        # Those that the user or a scheduler has left to this process.
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        ids = named.split(",") if named else [str(number) for number in range(gpus)]
        return [
            {"CUDA_VISIBLE_DEVICES": ids[slot % gpus]} for slot in range(min(points, jobs or gpus))
        ]
    if device not in ("auto", "cpu"):  # one GPU by its number
        return [{}] * min(points, jobs or 1)
    # A container or a scheduler may have given fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    slots = min(points, jobs or cores)
    # Threads of several processes that wait for each other on the same cores are far slower than
    # one each.
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // slots)))
    return [{"OMP_NUM_THREADS": threads}] * slots
