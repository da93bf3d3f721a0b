"""`paradise train`: a recipe becomes a run folder, from its beginning or from where it stopped."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from paradise_cli.build import build_attack, listed_folders
from paradise_cli.core.errors import Interrupted
from paradise_cli.core.machine import choose_device, full_fp32
from paradise_cli.core.processes import (
    any_process,
    first_on_machine,
    from_main,
    is_main,
    rank,
    together,
    world_size,
)
from paradise_cli.core.results import refuse_among
from paradise_cli.core.signals import goes_on, stop_on_signal
from paradise_cli.evaluation.validation import unlabelled_note, validation_of
from paradise_cli.recipe.schema import Recipe
from paradise_cli.runs.epoch_log import EpochLog, TensorBoardLog, require_tensorboard
from paradise_cli.runs.prepare import Training, prepare
from paradise_cli.runs.processes import meet, require_same_training, require_shared
from paradise_cli.runs.result import Trained, finish
from paradise_cli.runs.watch import watch_of
from paradise_cli.training.checkpoint import State
from paradise_cli.training.loop import Fit, Reporter
from paradise_cli.training.run_folder import RunFolder, free_name, latest_name


@together()
def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    device: str = "auto",
    fresh: bool = False,
    report: Reporter,
) -> Trained:
    """Train a recipe in its run folder, going on from the newest whole checkpoint there.

    The folder is `out`, else the newest `runs/<name>[-N]`; `fresh` takes a new one beside it. More
    epochs than at the start are allowed. Raises ParadiseError or UsageError for a folder in use,
    another recipe, other or missing data, Interrupted after a signal. Under `torchrun` all
    processes train one model, each on its share of every batch (docs/scale.md); the main one alone
    writes, and measures what comes out.
    """
    where = choose_device(device)
    meet(recipe, where)
    # Before a folder is made: what cannot be logged is found out now.
    if recipe.train.log == "tensorboard":
        require_tensorboard()
    folder = RunFolder(Path(from_main(str(_path(recipe, out, fresh)))))
    refuse_among(folder.path, listed_folders(recipe))
    # One lock for all: the others only read there.
    with folder.locked() if is_main() else nullcontext(), full_fp32(where), ExitStack() as signals:
        # Everything that can be refused is refused here, before anything is written: Ctrl-C ends it
        # at once, and nothing is lost.
        training = first_on_machine(lambda: prepare(recipe, folder, where, report))
        require_same_training(training)
        stop = signals.enter_context(stop_on_signal(report.say))
        if is_main() and (moved := training.begin()):
            report.say(f"warning: {moved}")
        require_shared(folder)
        report.say(_opening(training))
        state = _fit(training, report, stop)
        # They hold the same weights: to measure them once is enough.
        if not is_main():
            return Trained(folder.path, None, ())
        # The plain ones last: where they are, the training is taken for finished.
        for kind in reversed(training.models):
            training.save("last", kind, state.step)
        kept = "the trained weights are saved, and the same command measures them"
        if stop():
            raise Interrupted(kept)
        # A measurement cannot save a part of itself: it is stopped at once.
        signals.close()
        with goes_on(kept):
            return finish(training, state, report)


def _path(recipe: Recipe, out: Path | None, fresh: bool) -> Path:
    path = out or Path("runs") / recipe.name
    # Only a name that was not given is looked for: `out` means that very folder.
    if fresh:
        return free_name(path)
    return path if out else latest_name(path, recipe.name)


def _opening(training: Training) -> str:
    """Where and how the training runs, in one line."""
    parts = [f"{training.folder.path}: {training.device}", training.plan.precision]
    if world_size() > 1:
        parts.append(f"{world_size()} processes")
    images, batch = len(training.data.train), training.plan.batch_size
    if images < batch:
        parts.append(f"one step an epoch ({images} images are no full batch of {batch})")
    if training.saved is not None:
        parts.append(f"going on from step {training.step:,}")
    if training.extended is not None:
        before = training.extended["epochs_before"]
        parts.append(f"to epoch {training.plan.epochs:,} instead of {before:,}")
    return ", ".join(parts)


def _fit(training: Training, report: Reporter, stop: Callable[[], bool]) -> State:
    recipe, folder, model = training.recipe, training.folder, training.model
    objective, validation = training.objective, training.data.validation
    validate = None
    if validation is not None:
        if text := unlabelled_note(objective, validation):
            report.say(f"note: {text}")
        attack = build_attack(recipe)
        validate = validation_of(training.models, objective, validation, training.device, attack)
    log = None
    if is_main():
        # The records of steps that will be taken again.
        folder.truncate_metrics(training.step)
        if recipe.train.log == "tensorboard":
            log = TensorBoardLog(folder.tensorboard, training.step)
        watch = watch_of(training, folder.records())
        report = _Recorder(folder, report, log, watch)

    fit = Fit(
        model,
        objective,
        training.optimizer,
        training.plan,
        training.device,
        report,
        average=training.average,
        saved=training.saved,
        checkpoints=training.checkpoints if is_main() else None,
        validate=validate,
        keep_best=lambda kind, step: training.save("best", kind, step) if is_main() else None,
        stop=lambda: any_process(stop()),
        rank=rank(),
        world=world_size(),
    )
    # Closed also after a signal, so that the last points reach the file.
    try:
        return fit.run(training.data.train)
    finally:
        if log is not None:
            log.close()


class _Recorder(Reporter):
    """Completes each epoch's record, writes it to `metrics.jsonl` and the log, and shows it."""

    def __init__(
        self,
        folder: RunFolder,
        display: Reporter,
        log: EpochLog | None,
        watch: Callable[[dict[str, Any]], None],
    ) -> None:
        self._folder = folder
        self._display = display
        self._log = log
        self._watch = watch

    def progress(self, step: int, total: int, terms: dict[str, float]) -> None:
        self._display.progress(step, total, terms)

    def epoch(self, record: dict[str, Any]) -> None:
        self._watch(record)
        self._folder.append_metrics(record)
        if self._log is not None:
            self._log.epoch(record)
        self._display.epoch(record)
