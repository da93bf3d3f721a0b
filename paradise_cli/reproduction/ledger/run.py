"""`paradise reproduce`: train what is missing, measure, judge, and write it into the ledger."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.locks import locked
from paradise_cli.core.machine import choose_device, environment
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.signals import goes_on
from paradise_cli.core.temporary import sweep_out, unfinished
from paradise_cli.evaluation.evaluate import Bar, silent
from paradise_cli.reproduction.ledger.bench import Bench
from paradise_cli.reproduction.ledger.claims import Claim, Ledger, Number, Result
from paradise_cli.reproduction.ledger.plan import Plan, points, run_name
from paradise_cli.reproduction.ledger.results import keep
from paradise_cli.reproduction.ledger.verdicts import verdict
from paradise_cli.runs.estimate import planned_epochs
from paradise_cli.sweep.run import run_points


@dataclass(frozen=True)
class Outcome:
    """What came of a claim: a result, or why there is none; with one, why cells are empty."""

    claim: Claim
    result: Result | None
    why_not: str = ""


def ledger_in(out: Path) -> Path:
    """The folder of claims that a reproduction in `out` fills: a copy of what is shipped, at
    first. Raises ParadiseError where it cannot be written.
    """
    folder = out / "claims"
    try:
        if not folder.exists():
            # A part of it would pass for a ledger of fewer claims.
            with unfinished(folder, 0o600) as place:
                whole = shutil.copytree(resource_dir("claims"), place.with_name(folder.name))
                whole.rename(folder)
    except OSError as error:
        # Another process may have been faster.
        if not folder.is_dir():
            # Of several files shutil says what went wrong with each, and has no word of its own.
            why = error.strerror or error.args[0][0][2]
            raise ParadiseError(f"cannot write {folder}: {why}; choose another --out") from error
    return folder


def reproduce(
    ledger: Ledger,
    chosen: Plan,
    out: Path,
    *,
    device: str = "auto",
    jobs: int | None = None,
    bar: Bar = silent,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Carry out a plan in `out`, going on from what is there; its results go into the ledger.

    `bar` shows how many epochs and claims are done. Raises as `run_points`, and Interrupted after
    Ctrl-C; what is wrong with one claim alone is in its outcome.
    """
    runs, measured = out / "runs" / chosen.scale, out / "measured"
    with locked(out, "reproduction", "reproduction"):
        # What a killed process left: where all is measured, nobody writes there again.
        sweep_out(measured)
        wanted, absent = points(ledger, chosen)
        if wanted:
            epochs = sum(planned_epochs(each.recipe) for each in wanted)
            with bar(epochs, "epochs") as advance:
                finished = run_points(
                    wanted, runs, device=device, jobs=jobs, progress=advance, say=say
                )
            trained = {run_name(*each): each for each in chosen.trainings}
            # Of one seed: claims of fewer seeds do without it.
            absent |= {trained[each.point.name]: each.error for each in finished if each.error}
        settings = {
            "radius": ledger.networks.radius[chosen.scale],
            "attacked": ledger.networks.attacked[chosen.scale],
            "device": device,
        }
        # What could not be trained leaves out only what is asked of it.
        bench = Bench(runs, measured, absent, settings)
        outcomes = [Outcome(ledger.claims[name], None, why) for name, why in chosen.missing.items()]
        kept = "what was trained and measured is kept, and the same command goes on from there"
        with goes_on(kept), bar(len(chosen.claims), "claims") as advance:
            for claim in chosen.claims:
                outcomes.append(_outcome(ledger, claim, bench, chosen, device))
                advance(1)
    return outcomes


def _outcome(ledger: Ledger, claim: Claim, bench: Bench, chosen: Plan, device: str) -> Outcome:
    try:
        result, empty = _judged(claim, bench, chosen, device)
        keep(ledger.file(claim.claim), claim, result)
    except ParadiseError as error:
        return Outcome(claim, None, str(error))
    return Outcome(claim, result, "; ".join(empty))


def _judged(claim: Claim, bench: Bench, chosen: Plan, device: str) -> tuple[Result, list[str]]:
    """The result of a claim, and why cells of its table are empty."""
    check, control = claim.check, claim.control
    assert check is not None  # of every claim of a plan
    of, minus = check.of, check.minus
    found = bench.number(check.quantity, of, minus, claim.seeds)
    beside = second = None
    if control is not None:
        beside = bench.number(
            control.quantity or check.quantity,
            of if control.of is None else control.of,
            minus if control.minus is None else control.minus,
            claim.seeds,
        )
    if claim.second is not None:
        second = bench.number(claim.second.quantity, of, minus, claim.seeds)
    decided, note = verdict(check, found, beside, second)
    cells, empty = _cells(claim, bench, chosen)
    where = environment(choose_device(device))
    result = Result(
        scale=chosen.scale,
        verdict=decided,
        note=note,
        found=found,
        control=beside,
        second=second,
        cells=cells,
        seeds=list(range(claim.seeds)) if of else [],
        commit=str(where["commit"] or where["paradise"]),
        machine=f"{where['device']}, {where['processor']}, torch {where['torch']}",
        command=f"paradise reproduce {claim.claim} --scale {chosen.scale}",
    )
    return result, empty


def _cells(claim: Claim, bench: Bench, chosen: Plan) -> tuple[list[Number | None], list[str]]:
    """Our numbers beside the cells of the paper's table, None where there is none; and what went
    wrong with some of these.
    """
    found: list[Number | None] = []
    wrong: list[str] = []
    for cell in claim.cells:
        there = all((name, 0) in chosen.trainings for name in cell.of)
        if cell.quantity is None or not there:
            found.append(None)
            continue
        # No verdict rests on a cell.
        try:
            found.append(bench.number(cell.quantity, cell.of, (), claim.seeds))
        except ParadiseError as error:
            found.append(None)
            wrong.append(f"{cell.row}, {cell.column}: {error}")
    return found, wrong
