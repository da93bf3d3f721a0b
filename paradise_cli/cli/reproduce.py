"""`paradise reproduce`: which claims of the paper hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.options import DeviceOption, JsonOption, written
from paradise_cli.cli.output import note, print_json, print_table
from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.reproduction.ledger.claims import Claim, Ledger, Scale
    from paradise_cli.reproduction.ledger.plan import Plan
    from paradise_cli.reproduction.ledger.run import Outcome

SCALES = ("smoke", "small", "paper")
OUT = Path("reproduction")


What = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CLAIM]...",
        help="Claims such as C4 or E5, table1, figure5, or all.",
        show_default=False,
    ),
]
ScaleOption = Annotated[
    str, typer.Option(help="smoke (minutes of a CPU), small (hours), paper (what the paper used).")
]
List = Annotated[
    bool,
    typer.Option("--list", help="Show these claims, or all, with cost and verdict."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be trained and measured, and end.")
]
Claims = Annotated[
    Path | None,
    typer.Option(
        help="A folder of claims that is read and filled.",
        show_default="OUT/claims, at first a copy of the shipped ones",
    ),
]
Out = Annotated[
    Path, typer.Option(callback=written(), help="Where runs, measurements and claims go.")
]
Jobs = Annotated[int | None, typer.Option(min=1, max=1000, help="Trainings at a time.")]


def reproduce(
    what: What = None,
    scale: ScaleOption = "smoke",
    show: List = False,
    dry_run: DryRun = False,
    claims: Claims = None,
    out: Out = OUT,
    jobs: Jobs = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check the paper's claims: train what they need, measure, and judge by bounds set before.

    \b
    paradise reproduce --list                 all claims, their cost and verdict
    paradise reproduce C4                     one claim, in minutes
    paradise reproduce table1 --dry-run       what that would train
    paradise reproduce all --scale small      everything that hours allow

    The same command goes on where it stopped. Each claim has a control, which must fail the same
    check. Results are added to the claims' files; smoke.html beside them shows them all.
    """
    _check(scale, what or [], show)
    from paradise_cli.core.resources import resource_dir
    from paradise_cli.reproduction.ledger.claims import open_ledger
    from paradise_cli.reproduction.ledger.plan import plan
    from paradise_cli.reproduction.ledger.run import ledger_in

    asked: Any = scale
    looking = show or dry_run
    # Who only looks gets no folder of their own.
    shipped = looking and not (out / "claims").exists()
    folder = claims or (resource_dir("claims") if shipped else ledger_in(out))
    ledger = open_ledger(folder)
    wanted = ledger.chosen(what or ["all"])
    if show:
        _list(ledger, wanted, asked, as_json)
    elif dry_run:
        _dry_run(plan(ledger, wanted, asked), as_json)
    else:
        _carry_out(ledger, plan(ledger, wanted, asked), out, device, jobs, as_json)


def _check(scale: str, what: Sequence[str], show: bool) -> None:
    if scale not in SCALES:
        raise UsageError(
            f"--scale {scale}: no such scale{did_you_mean(scale, SCALES)}; known:"
            f" {', '.join(SCALES)}"
        )
    if not what and not show:
        raise UsageError(
            "name claims such as C4, table1 or all; `paradise reproduce --list` shows them"
        )


def _carry_out(
    ledger: "Ledger", chosen: "Plan", out: Path, device: str, jobs: int | None, as_json: bool
) -> None:
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.reproduction.ledger.claims import open_ledger
    from paradise_cli.reproduction.ledger.page import write_pages
    from paradise_cli.reproduction.ledger.run import reproduce as carried_out

    note(f"{counted(len(chosen.claims), 'claim')}, {_cost(chosen)}")
    outcomes = carried_out(
        ledger, chosen, out, device=device, jobs=jobs, bar=progress_bar, say=note
    )
    # Read again: by now its files hold what was found.
    pages = write_pages(open_ledger(ledger.folder), chosen.scale)
    if as_json:
        print_json([_json(each) for each in outcomes])
    else:
        _print(outcomes)
    note(f"{ledger.folder}: the claims with their results; pages: {', '.join(map(str, pages))}")
    # What has no check, or no training at this scale, was never promised.
    if any(each.result is None for each in outcomes if each.claim in chosen.claims):
        raise typer.Exit(1)


def _cost(chosen: "Plan") -> str:
    trainings = counted(len(chosen.trainings), "training")
    hours = f", {chosen.gpu_hours:,.1f} GPU-hours" if chosen.gpu_hours else ""
    return f"{trainings}: about {chosen.minutes:,.0f} minutes of one core{hours}"


def _print(outcomes: Sequence["Outcome"]) -> None:
    from paradise_cli.reproduction.ledger.page import NOT_RUN, shown

    rows = []
    for each in outcomes:
        result = each.result
        check = each.claim.check
        # Why a claim was not run is as much of an answer as a number.
        if result is None or check is None:
            rows.append([each.claim.claim, NOT_RUN, "", "", "", each.why_not])
            continue
        control = "" if result.control is None else shown(result.control)
        numbers = [shown(result.found), check.supported, control]
        notes = "; ".join(text for text in (result.note, each.why_not) if text)
        rows.append([each.claim.claim, result.verdict, *numbers, notes])
    print_table("Claims", ["claim", "verdict", "ours", "must be", "control", "note"], rows)


def _json(outcome: "Outcome") -> dict[str, Any]:
    result = outcome.result
    found = None if result is None else result.model_dump(mode="json")
    return {"claim": outcome.claim.claim, "result": found, "why_not": outcome.why_not or None}


def _list(ledger: "Ledger", asked: Sequence["Claim"], scale: "Scale", as_json: bool) -> None:
    from paradise_cli.reproduction.ledger.page import status
    from paradise_cli.reproduction.ledger.plan import plan

    rows = []
    for claim in asked:
        own = plan(ledger, [claim], scale)
        cost = own.missing.get(claim.claim) or _cost(own)
        state = status(claim, scale)
        rows.append({"claim": claim.claim, "says": claim.says, "status": state, "cost": cost})
    if as_json:
        print_json(rows)
        return
    # Sentences read best in the column that is left-aligned.
    cells = [[f"{row['claim']}: {row['says']}", row["status"], row["cost"]] for row in rows]
    print_table(f"Claims at scale {scale}", ["claim", "verdict", "cost"], cells)


def _dry_run(chosen: "Plan", as_json: bool) -> None:
    trainings = {f"{name}, seed {seed}": each for (name, seed), each in chosen.trainings.items()}
    if as_json:
        print_json(
            {
                "claims": [each.claim for each in chosen.claims],
                "trainings": {n: each.model_dump(mode="json") for n, each in trainings.items()},
                "minutes_of_a_core": chosen.minutes,
                "gpu_hours": chosen.gpu_hours,
                "not_run": chosen.missing,
            }
        )
        return
    rows = [
        [name, each.recipe, "" if each.minutes is None else f"{each.minutes:g}"]
        for name, each in trainings.items()
    ]
    print_table("Trainings", ["network", "recipe", "minutes"], rows)
    note(
        f"{counted(len(chosen.claims), 'claim')}, {_cost(chosen)}; those that are done cost nothing"
    )
    for name, why in chosen.missing.items():
        note(f"not run: {name}: {why}")
