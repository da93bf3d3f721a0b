"""How an attack is shown: its progress, its numbers, its verdict."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paradise_cli.cli.output import console, note
from paradise_cli.cli.progress import ProgressLine
from paradise_cli.cli.tables import Row, print_sections
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.attacks import AttackReport
    from paradise_cli.core.proportions import Proportion


@contextmanager
def attack_progress() -> Iterator[Callable[[str, int, int, float], None]]:
    """Give a function that shows which attack runs, how far it is, and what still stands."""
    line: ProgressLine | None = None
    shown = ""

    def pulse(what: str, done: int, total: int, standing: float) -> None:
        nonlocal line, shown
        # Each attack has a line of its own: they differ in length by thousands.
        if line is None or what != shown:
            if line is not None:
                line.close()
            line, shown = ProgressLine(what, total), what
        line.update(done, f"{standing:.1%} standing")

    try:
        yield pulse
    finally:
        if line is not None:
            line.close()


def print_report(report: "AttackReport", title: str, already_shown: Collection[str] = ()) -> None:
    """Accuracy, attacks, audit and verdict on stdout, notes not `already_shown` on stderr."""
    from paradise_cli.attacks.audit.audit import MEANINGS

    settings = report.settings
    print_sections(
        f"{title}: {counted(len(report.rows), 'image')}, {settings.norm} {settings.eps_text}, suite"
        f" {settings.suite}",
        ("what", "accuracy", "95% interval"),
        _sections(report),
    )
    console.print(f"interval of robust accuracy: {report.interval}")
    rows = [(f"{row.number}. {row.name}", row.result, row.measured) for row in report.audit.rows]
    print_sections("audit", ("test", "result", "measured"), [rows])
    found = report.audit.summary
    console.print(f"verdict: {report.verdict}; {found}. {MEANINGS[report.verdict]}")
    for line in report.audit.evidence:
        console.print(f"  {line}")
    spent = report.provenance.spent
    attacks, audit = ("{:,.0f} and {:,.0f}".format(*each) for each in (spent.suite, spent.audit))
    console.print(
        f"cost: {spent.seconds:,.1f} s; passes of the model for each image, forward and back:"
        f" {attacks} in the attacks, {audit} in the audit"
    )
    for line in report.notes:
        if line not in already_shown:
            note(f"note: {line}")


def _sections(report: "AttackReport") -> list[list[Row]]:
    """Clean accuracy, each attack, their worst case, and the curve."""
    lowest, so_far = report.lowest_transfer, " so far" if report.unfinished else ""
    stages = []
    for stage in report.stages:
        if stage.reaches_target:
            stages.append(_row(f"{stage.shown}, reached", stage.share))
        else:
            stages.append(_row(stage.shown, stage.share, report.bound))
    transferred = []
    if lowest is not None:
        transferred.append(_row(f"lowest mean: {lowest.name}", lowest.share, report.bound))
    worst = f"worst case: robust accuracy{so_far}"
    # A single point is the robust accuracy once more.
    curve = report.curve if len(report.curve) > 1 else ()
    words_for = report.settings.words_for
    return [
        [_row("clean", report.clean_accuracy)],
        stages,
        transferred,
        [
            _row(worst, report.robust_accuracy, report.bound),
            _row("the same points as 8-bit images", report.lattice_accuracy, report.bound),
        ],
        [_row(f"eps {words_for(eps)}", share, report.bound) for eps, share in curve],
    ]


def _row(what: str, share: "Proportion", bound: str | None = None) -> Row:
    value = f"{share.value:.2%}"
    span = f"{share.low:.2%} to {share.high:.2%}"
    return (what, f"{value}, {bound}" if bound else value, span)
