"""Whether the robustness that a suite measured may be a mirage: the audit of method.md 5.5, its
verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paradise_cli.attacks.audit.context import Case, Siblings
from paradise_cli.attacks.audit.evidence import Result
from paradise_cli.attacks.audit.rows import ROWS
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.session import Phase, Session
from paradise_cli.core.errors import ParadiseError

Verdict = Literal["not detected", "suspect", "obfuscated"]
VERDICTS: tuple[Verdict, ...] = ("not detected", "suspect", "obfuscated")
"""From the mildest on."""
MEANINGS: dict[str, str] = {
    "not detected": "The audit found no sign that the attacks were fooled; that is no proof of"
    " robustness.",
    "suspect": (
        "Checks of the audit failed, or attacks ran out of time, and may have missed images that"
        " they could"
        " have broken: the model may be less robust than the number says."
    ),
    "obfuscated": (
        "The audit found that the model misleads the attacks instead of resisting them: the number"
        " must not"
        " be quoted as robustness."
    ),
}

DECISIVE = frozenset({2, 3, 5, 8})
"""Rows whose failure shows that gradients are of no use, and not only that an attack could be
stronger.
"""


@dataclass(frozen=True)
class AuditRow:
    """One test on n images: what was measured, against what, and what a failure means."""

    number: int
    name: str
    result: Result
    measured: str
    threshold: str
    meaning: str
    n: int


@dataclass(frozen=True)
class Audit:
    """The verdict with its evidence, the rows it rests on, and accuracy under PGD-20: (eps,
    accuracy, n).

    That nothing was detected proves nothing: a defence that passes every row may still fall.
    """

    verdict: Verdict
    evidence: tuple[str, ...]
    rows: tuple[AuditRow, ...]
    curve: tuple[tuple[float, float, int], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def audit(
    session: Session,
    eps: float,
    *,
    white: Mapping[int, Entry],
    black: Mapping[int, Entry],
    rows: Sequence[int],
    images: int = 200,
    queries: int = 1000,
    siblings: Siblings | None = None,
) -> Audit:
    """Audit what a suite found at `eps` on these rows, on the first `images` of them.

    `white` are entries of images that fell to gradients, `black` of those that fell to a black box
    after they had stood against these. `queries` are those of Square, and random points of each
    kind (method.md asks for 10,000). A row fails only if a bound of 95% shows it, and passes only
    if there are images enough; what the session's deadline cuts short is inconclusive. The
    siblings' attacks end then too, and their progress goes where the session's does.
    """
    case = Case(session, eps, tuple(rows[:images]), white, black, siblings or Siblings(), queries)
    found = []
    for number, (name, threshold, meaning, measure) in ROWS.items():
        with ExitStack() as stack:
            phases = [stack.enter_context(phase) for phase in _phases(case, f"audit {number}: ")]
            try:
                result, measured, n = measure(case)
            except ParadiseError as error:
                if session.shard.world > 1:  # the others would wait for this process
                    raise
                result, measured, n = "inconclusive", f"not measured: {error}", 0
        if n and any(phase.unfinished for phase in phases):
            result, measured = "inconclusive", f"{measured} (time was up)"
        found.append(AuditRow(number, name, result, measured, threshold, meaning, n))
    points = tuple((level, case.accuracy(broken), case.n) for level, broken in case.curve)
    behaviour = session.subject.behaviour
    return Audit(
        *judged(found, behaviour.batch_dependent, behaviour.difference), tuple(found), points
    )


def _phases(case: Case, title: str) -> Iterator[AbstractContextManager[Phase]]:
    """A phase of the session, and one of each sibling that reports and ends as it does."""
    session = case.session
    yield session.phase(title, denominator=max(1, case.n))
    for sibling in case.siblings.sessions:
        yield sibling.phase(title, deadline=session.deadline, pulse=session.pulse)


def judged(
    rows: Sequence[AuditRow], batch_dependent: bool, difference: float
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict that rows lead to, and a line of evidence for each reason."""
    failed = [row for row in rows if row.result == "fail"]
    evidence = [f"row {row.number}, {row.name}: {row.measured} ({row.meaning})" for row in failed]
    if batch_dependent:
        evidence.append(
            f"an image's logits depend on its batch, by {difference:.1%} of their spread: no"
            " accuracy of"
            " single images exists"
        )
    if any(row.number in DECISIVE for row in failed):
        return "obfuscated", tuple(evidence)
    if evidence:
        return "suspect", tuple(evidence)
    open_rows = [str(row.number) for row in rows if row.result == "inconclusive"]
    if open_rows:
        evidence.append(
            f"inconclusive: rows {', '.join(open_rows)}; audit more images, or allow more time"
        )
    return "not detected", tuple(evidence)
