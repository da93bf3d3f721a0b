"""How an attack is shown: its progress, its numbers, its verdict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paradise_cli.cli.output import console, note
from paradise_cli.cli.progress import ProgressLine
from paradise_cli.cli.tables import Row, print_sections

if TYPE_CHECKING:
    from paradise_cli.attacks import AttackReport
    from paradise_cli.core.proportions import Proportion


@contextmanager
def attack_progress() -> Iterator[Callable[[str, int, int, float], None]]:
    """Give a function that shows what is being done, how far it is and how many images still
    stand.
    """
    line: ProgressLine | None = None
    shown = ""

    def pulse(what: str, done: int, total: int, standing: float) -> None:
        nonlocal line, shown
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


def print_report(report: "AttackReport", title: str) -> None:
    """Accuracy, attacks, audit and verdict on stdout, what else should be known on stderr."""
    from paradise_cli.attacks.audit.audit import MEANINGS

    settings, lowest = report.settings, report.lowest_transfer
    n, so_far = len(report.rows), " so far" if report.unfinished else ""
    print_sections(
        f"{title}: {n:,} images, {settings['norm']} {settings['eps_text']}, suite"
        f" {settings['suite']}",
        ("what", "accuracy", f"interval, {report.interval}"),
        [
            [_row("clean", report.clean_accuracy)],
            [
                _row(f"{stage.name}{', reached' if stage.reaches_target else ''}", stage.share)
                for stage in report.stages
            ],
            [] if lowest is None else [_row(f"lowest mean: {lowest.name}", lowest.share)],
            [
                _row(f"worst case: robust accuracy{so_far}", report.robust_accuracy),
                _row("the same points as 8-bit images", report.lattice_accuracy),
            ],
            [_row(f"eps {eps:.4g}", share) for eps, share in report.curve if len(report.curve) > 1],
        ],
    )
    rows = [(f"{row.number}. {row.name}", row.result, row.measured) for row in report.audit.rows]
    print_sections("audit", ("test", "result", "measured"), [rows])
    console.print(f"verdict: {report.verdict}. {MEANINGS[report.verdict]}")
    for line in report.audit.evidence:
        console.print(f"  {line}")
    for line in report.notes:
        note(f"note: {line}")


def _row(what: str, share: "Proportion") -> Row:
    return (what, f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}")
