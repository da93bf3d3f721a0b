"""The frontier beside a training: the same recipe at other alphas, and how many bits it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paradise_cli.core.units import BITS, counted, significant
from paradise_cli.recipe.schema import Recipe
from paradise_cli.sweep.axes import ALPHA, Axis
from paradise_cli.sweep.plan import plan
from paradise_cli.sweep.result import SweepResult
from paradise_cli.sweep.run import FinishedRun, finished_run, run_points
from paradise_cli.sweep.summary import summarise
from paradise_cli.training.run_folder import RunFolder

FOLDER = "frontier"
"""In a run's folder."""


def frontier_beside(
    run: Path,
    recipe: Recipe,
    split: str,
    *,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None],
) -> tuple[SweepResult, Path]:
    """Train a run's recipe at each other alpha of its `train.frontier`, measured on a split.

    It goes on where it stopped. Gives the result, which is written into the run's folder, and where
    its picture is. Errors as `run_points`.
    """
    alphas = Axis(ALPHA, tuple(dict.fromkeys(f"{alpha:.6g}" for alpha in recipe.train.frontier)))
    own = RunFolder(run)
    points = plan(str(own.recipe), [alphas])
    others = [each for each in points if each.recipe.objective.alpha != recipe.objective.alpha]
    folder = run / FOLDER
    known: dict[str, FinishedRun] = {}
    if others:
        # As the run itself: whose epochs were raised, those beside it are trained longer, too.
        runs = run_points(
            others, folder, split=split, device=device, going_on=True, progress=progress, say=say
        )
        known = {each.point.name: each for each in runs}
    # At the run's own alpha it would be the same training again.
    found = [known.get(each.name) or finished_run(each, own, split) for each in points]
    result = summarise(found, split)
    return result, result.write(folder, say)


def bits_needed(result: SweepResult, classes: int) -> str | None:
    """How many bits so many classes need, in a sentence; None without accuracies and rates.

    The fewest whose accuracy's interval reaches the best accuracy.
    """
    rows = [row for row in result.rows if "rate" in row and "accuracy" in row]
    if not rows:
        return None
    best = max(rows, key=lambda row: row["accuracy"])
    enough = [row for row in rows if row["accuracy_high"] >= best["accuracy"]]
    fewest = min(enough, key=lambda row: row["rate"])
    most = max(rows, key=lambda row: row["rate"])
    text = f"{counted(classes, 'class', 'classes')} need {_bits(fewest)}, {_accuracy(fewest)}"
    if fewest is not best:
        text += f"; the best accuracy, {best['accuracy']:.1%}, is within its interval"
    if fewest is not most:
        text += f"; at alpha = {most['alpha']:g}, {_bits(most)} are kept"
    return text


def _bits(row: dict[str, Any]) -> str:
    low, high = (significant(row[end] * BITS, 2) for end in ("rate_lower", "rate_upper"))
    return f"{low} to {high} bits"


def _accuracy(row: dict[str, Any]) -> str:
    low, high = row["accuracy_low"], row["accuracy_high"]
    share = f"{row['accuracy']:.1%} ({low:.1%} to {high:.1%})"
    return f"with accuracy {share}, at alpha = {row['alpha']:g}"
