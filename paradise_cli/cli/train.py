"""`paradise train`."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.options import (
    DeviceOption,
    JsonOption,
    OverridesOption,
    RecipeArgument,
    written,
)
from paradise_cli.cli.output import note, print_json, print_table
from paradise_cli.core.errors import UsageError
from paradise_cli.core.processes import is_main
from paradise_cli.core.ranges import MOST_PROCESSES
from paradise_cli.core.units import counted, significant

if TYPE_CHECKING:
    from paradise_cli.evaluation.evaluate import Evaluation
    from paradise_cli.recipe.schema import Recipe
    from paradise_cli.runs.result import Trained
    from paradise_cli.runs.weights import Weights
    from paradise_cli.sweep.result import SweepResult


def train(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None,
        typer.Option(callback=written(), help="Run folder; without it runs/<name of the recipe>."),
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print parameters, memory and seconds per epoch.")
    ] = False,
    world: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            help="With --dry-run: reckon for so many processes, also with --device h100.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over in a new folder beside the old run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe; the same command again goes on where it stopped.

    \b
    paradise train digits
    paradise train digits --set objective.alpha=0.3 --out runs/alpha-0.3
    paradise train my_recipe.yaml --dry-run
    paradise train my_recipe.yaml --dry-run --world 8 --device h100
    """
    if world is not None and not dry_run:
        raise UsageError("--world reckons, with --dry-run; to train in processes start torchrun")
    from paradise_cli.recipe.files import find_recipe

    find_recipe(recipe)  # a misspelt name is told before torch is loaded

    from paradise_cli.recipe.schema import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    # A file of the user's that is not found must not become a shipped recipe in silence.
    if loaded.note:
        note(loaded.note)
    if dry_run:
        _estimate(loaded.recipe, device, world, as_json)
    else:
        _train(loaded.recipe, out, device, fresh, as_json)


def _estimate(recipe: "Recipe", device: str, world: int | None, as_json: bool) -> None:
    import dataclasses

    from paradise_cli.cli.progress import duration, noted_if_slow
    from paradise_cli.core.units import SUSTAINED
    from paradise_cli.runs.estimate import dry_run
    from paradise_cli.runs.forecast import PLACES

    with noted_if_slow("measuring a few steps on random data; a long step takes its time"):
        if world is not None or device in PLACES:
            _forecast(recipe, device, world or 1, as_json)
            return
        cost = dry_run(recipe, device)
    if as_json:
        print_json(dataclasses.asdict(cost))
        return
    per_epoch = cost.seconds_per_epoch
    epochs = counted(cost.epochs, "epoch")
    if cost.trainings > 1:
        epochs += f" at each of {cost.trainings} alphas"
    rows = [
        ("data", cost.data),
        ("device, precision", f"{cost.device}, {cost.precision}"),
        ("parameters", f"{cost.parameters:,}"),
        ("memory", f"{cost.memory_bytes / 2**20:,.0f} MiB"),
        ("steps per epoch", f"{cost.steps_per_epoch:,} of {recipe.train.batch_size}"),
        ("time per epoch", f"{per_epoch:.1f}s" if per_epoch < 60 else duration(per_epoch)),
        ("time in all", f"{duration(cost.seconds)} ({epochs})"),
        ("passes per image", f"{cost.work.forward:g} forward, {cost.work.back:g} back"),
        ("operations in all", f"{cost.operations / 1e15:,.3g} PFLOP"),
    ]
    if cost.features_seconds:
        once = f"{duration(cost.features_seconds)}, once, where none are kept yet; reading apart"
        rows.insert(6, ("features", once))
    # Of a small network they would be a riddle: a GPU mostly waits for it.
    if cost.gpu_hours >= 0.1:
        hours = f"{cost.gpu_hours:.2g} at {SUSTAINED / 1e12:g} TFLOP/s, not measured"
        rows.append(("GPU-hours", hours))
    if cost.init is not None:
        note(cost.init)
    print_table(f"{recipe.name}: a trial on random data", ("what", "value"), rows)


def _forecast(recipe: "Recipe", device: str, world: int, as_json: bool) -> None:
    from paradise_cli.cli.progress import duration
    from paradise_cli.core.units import SUSTAINED
    from paradise_cli.runs.forecast import forecast

    found = forecast(recipe, device, world)
    if as_json:
        print_json(found.to_json())
        return
    has = "" if found.memory_of is None else f" of {found.memory_of / 2**20:,.0f}"
    speed = "measured" if found.host is None else f"at {SUSTAINED / 1e12:g} TFLOP/s"
    rows = [
        ("images of a batch for each", f"{found.images:,} of {found.batch_size:,}"),
        ("memory of each", f"{found.memory_bytes / 2**20:,.0f}{has} MiB"),
        ("sent by each in a step", f"{found.bytes_sent / 1e6:,.3g} MB"),
        ("a step: computing", f"{found.computing:.2g} s, {speed}"),
        ("steps", f"{found.steps:,} an epoch, {counted(found.epochs, 'epoch')}"),
        ("time in all", duration(3600 * found.hours)),
        ("hours of all devices", f"{found.hours * found.world:,.2g}"),
    ]
    # Of processes here nothing is known of what joins them.
    if found.host is not None and found.sending is not None:
        host, sending = f"at most {found.host:.2g} s, measured", f"{found.sending:.2g} s"
        rows[4:4] = [("a step: the host, beside it", host), ("a step: sending", sending)]
    several = counted(found.world, "process", "processes")
    title = f"{recipe.name}: {several} on {found.device}, an estimate"
    print_table(title, ("what", "value"), rows)
    where = "here" if found.host is None else f"here, the speed of {found.device} is assumed"
    note(f"reckoned from a trial on random data {where}; reading and validation come on top")


def _train(recipe: "Recipe", out: Path | None, device: str, fresh: bool, as_json: bool) -> None:
    from paradise_cli.cli.evaluate import print_evaluation
    from paradise_cli.cli.training_progress import TrainingProgress
    from paradise_cli.runs.train import train
    from paradise_cli.training.loop import Reporter

    # Shown on stderr: with --json stdout is one document.
    with TrainingProgress() if is_main() else nullcontext(Reporter()) as progress:
        trained = train(recipe, out=out, device=device, fresh=fresh, report=progress)
    if not is_main():
        return
    if as_json:
        beside = _frontier(recipe, trained, device)
        print_json(
            {
                "folder": str(trained.folder),
                "weights": [each.to_json() for each in trained.weights],
                "judged_on": trained.judged_on,
                "alarms": [each.to_json() for each in trained.alarms],
                "pictures": [str(picture) for picture in trained.pictures],
                **trained.measured(),
                "frontier": None if beside is None else beside[0].to_json(),
            }
        )
        return
    # Without images to measure on data are trained on all the same.
    if trained.evaluation:
        print_evaluation(trained.evaluation)
    _print_weights(trained.weights, trained.judged_on)
    note(f"run folder: {trained.folder}")
    if trained.pictures:
        note(f"pictures:   {', '.join(picture.name for picture in trained.pictures)}")
    # What is known is shown first: each other alpha takes as long again.
    beside = _frontier(recipe, trained, device)
    if beside is not None:
        _print_frontier(beside[0], trained.evaluation)
        note(f"picture:    {beside[1].relative_to(trained.folder)}")


def _frontier(
    recipe: "Recipe", trained: "Trained", device: str
) -> "tuple[SweepResult, Path] | None":
    """The same recipe at the other alphas that it names, where there are images to measure on."""
    if not recipe.train.frontier or trained.split is None:
        return None
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.runs.estimate import planned_epochs
    from paradise_cli.sweep.beside import frontier_beside

    others = set(recipe.train.frontier) - {recipe.objective.alpha}
    epochs = len(others) * planned_epochs(recipe)
    with progress_bar(epochs, "epochs at other alphas") as advance:
        return frontier_beside(
            trained.folder, recipe, trained.split, device=device, progress=advance, say=note
        )


def _print_frontier(result: "SweepResult", evaluation: "Evaluation | None") -> None:
    from paradise_cli.cli.sweep import print_runs
    from paradise_cli.sweep.beside import bits_needed

    print_runs(result)
    for scores in evaluation.classification[:1] if evaluation else ():
        if needed := bits_needed(result, scores.classes):
            note(needed)


def _print_weights(weights: "Sequence[Weights]", judged_on: dict[str, Any]) -> None:
    """The weights of a run beside each other, with what validation images say of them."""
    names = list(dict.fromkeys(name for each in weights for name in each.validation))
    # Without validation images there are one or two files, and nothing to compare.
    if not names:
        return
    tasks = {name.partition("/")[2] for name in names}
    rows = []
    for each in weights:
        cells = [_metric(name, each.validation.get(name)) for name in names]
        rows.append((each.name, f"{each.step:,}", *cells))
    heads = [_heading(name, several=len(tasks) > 1) for name in names]
    title = f"weights, on {counted(judged_on['n'], 'validation image')}"
    if judged_on.get("labelled", judged_on["n"]) < judged_on["n"]:
        title += f", {judged_on['labelled']:,} of them labelled"
    if attack := judged_on.get("attack"):
        steps = counted(attack["steps"], "step")
        title += f"; attacked: {attack['n']:,}, eps {attack['eps']:.4g}, {steps}"
    print_table(title, ("weights", "step", *heads), rows)
    note("the best were chosen on these very images, which flatters them: attack and evaluate them")


def _heading(metric: str, several: bool) -> str:
    kind, _, task = metric.partition("/")
    words = "robust accuracy" if kind == "robust" else kind
    # One task needs no name.
    return f"{words} ({task})" if several else words


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    shares = name.startswith(("accuracy/", "robust/"))
    return f"{value:.2%}" if shares else significant(value)
