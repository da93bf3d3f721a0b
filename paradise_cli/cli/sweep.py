"""`paradise sweep`."""

from collections.abc import Sequence
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
from paradise_cli.core.ranges import MOST_RUNS
from paradise_cli.core.units import END_DIGITS, counted, significant

if TYPE_CHECKING:
    from paradise_cli.sweep.result import Frontier, SweepResult
    from paradise_cli.sweep.run import FinishedRun

Alpha = Annotated[
    str | None,
    typer.Option(metavar="VALUES", help="Values of alpha: 0.1,1,10 or first:last:count."),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUES", help="Values of another field; may be repeated."),
]
Seeds = Annotated[
    int,
    typer.Option(
        min=1, max=MOST_RUNS, help="Trainings of each point, under seeds one after the other."
    ),
]
Split = Annotated[str, typer.Option(help="What is measured on: test, validation or train.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_RUNS,
        help="Runs at a time; without it one per GPU, or per core without one.",
    ),
]
Worker = Annotated[
    bool,
    typer.Option("--worker", help="Share the runs with others that say so in the same folder."),
]
Out = Annotated[
    Path | None,
    typer.Option(callback=written(), help="Folder; without it sweeps/<name of the recipe>."),
]


def sweep(
    recipe: RecipeArgument,
    alpha: Alpha = None,
    grid: Grid = None,
    seeds: Seeds = 1,
    overrides: OverridesOption = None,
    split: Split = "test",
    out: Out = None,
    jobs: Jobs = None,
    worker: Worker = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a recipe at many settings and judge the rate-distortion frontier.

    The same command again goes on where it stopped.

    \b
    paradise sweep gaussian_source --alpha 0.1:4:9 --seeds 3
    paradise sweep digits --alpha 0.1,1 --grid 'model.latent_dim=2,8'
    paradise sweep digits --alpha 0.1:1:9 --worker --out shared/alphas
    """
    from paradise_cli.recipe.files import find_recipe
    from paradise_cli.sweep.axes import alpha_axis, parse_axis

    # What is misspelt here is answered before torch is loaded.
    find_recipe(recipe)
    axes = [alpha_axis(alpha)] if alpha is not None else []
    axes += [parse_axis(text) for text in grid or ()]

    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.data import check_split
    from paradise_cli.recipe.schema import load_recipe
    from paradise_cli.runs.estimate import planned_epochs
    from paradise_cli.sweep.plan import plan
    from paradise_cli.sweep.run import run_points

    check_split(split)
    # A file of the user's that is not found must not become a shipped recipe in silence.
    if (shipped := load_recipe(recipe, overrides or ()).note) is not None:
        note(shipped)
    points = plan(recipe, axes, seeds=seeds, overrides=overrides or ())
    folder = out or Path("sweeps") / points[0].recipe.name
    note(f"{folder}: {counted(len(points), 'run')}")
    with progress_bar(sum(planned_epochs(each.recipe) for each in points), "epochs") as advance:
        finished = run_points(
            points, folder, split=split, device=device, jobs=jobs, worker=worker,
            progress=advance, say=note,
        )  # fmt: skip
    _deliver(finished, split, folder, as_json)


def _deliver(finished: "Sequence[FinishedRun]", split: str, folder: Path, as_json: bool) -> None:
    from paradise_cli.sweep.summary import summarise

    result = summarise(finished, split)
    result.write(folder, note)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)
    for name, error in result.failed:
        note(f"failed: {name}: {error}")
    there = [name for name in result.files if (folder / name).exists()]
    note(f"{folder}: {', '.join(there)}; each run in points/")
    # After everything was printed: the points that succeeded are worth seeing.
    if result.failed:
        raise typer.Exit(1)


def _print(result: "SweepResult") -> None:
    print_runs(result)
    for frontier in result.frontiers:
        _print_checks(frontier)
    for text in result.warnings:
        note(f"warning: {text}")


def print_runs(result: "SweepResult") -> None:
    """A line for each run of a sweep."""
    measured = [row for row in result.rows if row["error"] is None]
    classified = all("accuracy" in row for row in measured)
    # On training data, which the encoder has seen, nothing is certified of other images.
    certified = "I_N certified" if result.split == "train" else "I(X;Z)"
    columns = ["run", "D", "rate I_N", certified, "accuracy" if classified else "active"]
    rows = [
        [
            row["run"],
            f"{row['distortion']:.4g} ± {row['distortion_error']:.1g}",
            *_rates(row),
            f"{row['accuracy']:.2%}" if classified else f"{row['active']} of {row['dimensions']}",
        ]
        for row in measured
    ]
    title = (
        f"{result.data}, n = {result.n:,}: D in {result.unit} at sampled z, rates in nats, ±"
        " standard errors"
    )
    print_table(title, columns, rows)


def _rates(row: dict[str, Any]) -> tuple[str, str]:
    """The exact rate with its standard error, and the ends of its interval."""
    if "rate" not in row:
        return "-", "-"
    low, high = (significant(row[end], END_DIGITS) for end in ("rate_lower", "rate_upper"))
    return f"{significant(row['rate'])} ± {row['rate_error']:.1g}", f"{low} to {high}"


def _print_checks(frontier: "Frontier") -> None:
    # Supervised frontiers have no slopes to compare with alpha.
    if frontier.slopes:
        rows = [
            [
                f"{slope.between[0]} to {slope.between[1]}",
                f"{slope.measured:.4g}",
                f"{slope.expected:.4g}",
                slope.verdict,
            ]
            for slope in frontier.slopes
        ]
        print_table(
            f"slope -dD/dR {frontier.title}".rstrip(),
            ["between", "measured", "alpha", "verdict"],
            rows,
        )
    if frontier.checks:
        rows = [[check.name, check.verdict, check.detail] for check in frontier.checks]
        print_table(f"frontier {frontier.title}".rstrip(), ["check", "verdict", "evidence"], rows)
