"""The audit: whether the robustness that a suite measured may be a mirage, and the verdict.

Source: method.md 5.5.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paradise_cli.attacks.audit.context import SQUARE_QUERIES, Case, Siblings
from paradise_cli.attacks.audit.declare import NOT_APPLICABLE, Finding, Row
from paradise_cli.attacks.audit.evidence import Result
from paradise_cli.attacks.audit.rows import ALL_ROWS
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.phase import Phase
from paradise_cli.attacks.session.session import Session
from paradise_cli.core.errors import ParadiseError

Verdict = Literal["not detected", "undecided", "suspect", "obfuscated"]
VERDICTS: tuple[Verdict, ...] = ("not detected", "undecided", "suspect", "obfuscated")
"""From the mildest on."""
MEANINGS: dict[str, str] = {
    "not detected": (
        "The audit found no sign that the attacks were fooled; that is no proof of robustness."
    ),
    "undecided": (
        "The audit could not be decided: too few images, or too little time. Whether the attacks"
        " were fooled is not known."
    ),
    "suspect": (
        "Tests of the audit failed, or attacks ran out of time, and may have missed images that"
        " they could have broken: the model may be less robust than the number says."
    ),
    "obfuscated": (
        "The audit found that the model misleads the attacks instead of resisting them: the number"
        " must not be quoted as robustness."
    ),
}
_MASKING: dict[str, str] = {
    "not detected": "none found",
    "undecided": "none found",
    "suspect": "suspected",
    "obfuscated": "found",
}


@dataclass(frozen=True)
class AuditRow:
    """One test on n images: what was measured, against what, and what a failure means.

    `decisive` and `needed` are those of the declared `Row`.
    """

    number: int
    name: str
    result: Result
    measured: str
    threshold: str
    meaning: str
    n: int
    decisive: bool = False
    needed: bool = False


@dataclass(frozen=True)
class Audit:
    """The verdict with its evidence, the rows it rests on, and accuracy under PGD-20.

    The `curve` holds (eps, accuracy, n). That nothing was detected proves nothing: a defence that
    passes every row may still break.
    """

    verdict: Verdict
    evidence: tuple[str, ...]
    rows: tuple[AuditRow, ...]
    curve: tuple[tuple[float, float, int], ...]

    @property
    def decided(self) -> int:
        """How many tests passed or failed."""
        return sum(row.result in ("pass", "fail") for row in self.rows)

    @property
    def total(self) -> int:
        """How many tests apply to the classifier."""
        return sum(row.result != NOT_APPLICABLE for row in self.rows)

    @property
    def summary(self) -> str:
        """The verdict on one line, with how many tests it rests on."""
        found = _MASKING[self.verdict]
        return f"gradient masking: {found} ({self.decided} of {self.total} tests decided)"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"decided": self.decided, "total": self.total}


def audit(
    session: Session,
    eps: float,
    *,
    white: Mapping[int, Entry],
    black: Mapping[int, Entry],
    rows: Sequence[int],
    images: int = 200,
    queries: int = SQUARE_QUERIES,
    draws: int = 1000,
    siblings: Siblings | None = None,
) -> Audit:
    """Audit what a suite found at `eps` on these rows, on the first `images` of them.

    `white` are entries of images that gradients broke, `black` of those that a black box broke
    after they had stood against these. `queries` are the most of a run of a black box, and `draws`
    random points of each kind (method.md asks for 10,000). A row fails only if a bound of 95% shows
    it, and passes only if there are images enough; what the session's deadline cuts short is
    inconclusive. The siblings' attacks end then too, and their progress goes where the session's
    does.
    """
    audited = tuple(rows[:images])
    case = Case(session, eps, audited, white, black, siblings or Siblings(), queries, draws)
    found: list[AuditRow] = []
    late = False  # whether time ran out in some row
    for row in ALL_ROWS:
        # The last resort costs much, and is only for models that another row has caught.
        failed = {each.number for each in found if each.result == "fail"}
        if row.after and not row.after & failed:
            reason = "none of the rows that ask for it failed"
            found.append(_audit_row(row, Finding(NOT_APPLICABLE, reason, 0)))
            continue
        finding, cut_short = _examined(row, case)
        # Rows share attacks: once one was cut short, every later row may rest on it.
        late = late or cut_short
        if late and finding.n:
            finding = Finding("inconclusive", f"{finding.measured} (time was up)", finding.n)
        found.append(_audit_row(row, finding))
    # What row 4 has measured; where that failed it is not tried again, with no row to say so.
    curve = vars(case).get("curve", ())
    points = tuple((level, case.accuracy(broken), case.n) for level, broken in curve)
    behaviour = session.subject.behaviour
    verdict, evidence = judged(found, behaviour.batch_dependent, behaviour.difference)
    return Audit(verdict, evidence, tuple(found), points)


def _examined(row: Row, case: Case) -> tuple[Finding, bool]:
    """What a row finds, and whether time cut it short."""
    with ExitStack() as stack:
        phases = [stack.enter_context(phase) for phase in _phases(case, f"audit {row.number}: ")]
        try:
            finding = row.examine(case)
        except ParadiseError as error:
            if case.session.shard.world > 1:
                raise  # the other processes would wait for this one for ever
            # One row that cannot be made must not cost the others, nor the attack itself.
            finding = Finding("inconclusive", f"not measured: {error}", 0)
    return finding, any(phase.unfinished for phase in phases)


def _phases(case: Case, title: str) -> Iterator[AbstractContextManager[Phase]]:
    """A phase of the session, and one of each sibling that reports and ends as it does."""
    session = case.session
    # All images of a row can stand, so that the share shown is one of all that are audited.
    yield session.phase(title, denominator=max(1, case.n))
    # Siblings have sessions of their own, with no deadline: theirs is the audit's.
    for sibling in case.siblings.sessions:
        yield sibling.phase(title, deadline=session.deadline, pulse=session.pulse)


def _audit_row(row: Row, finding: Finding) -> AuditRow:
    return AuditRow(
        number=row.number,
        name=row.name,
        result=finding.result,
        measured=finding.measured,
        threshold=row.threshold,
        meaning=row.means,
        n=finding.n,
        decisive=row.decisive,
        needed=row.needed,
    )


def judged(
    rows: Sequence[AuditRow], batch_dependent: bool, difference: float
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict that rows lead to, and a line of evidence for each reason."""
    failed = [row for row in rows if row.result == "fail"]
    evidence = [f"row {row.number}, {row.name}: {row.measured} ({row.meaning})" for row in failed]
    # No row can see this: every attack asks in batches of its own.
    if batch_dependent:
        evidence.append(
            f"an image's logits depend on its batch, by {difference:.1%} of their spread: no"
            " accuracy of single images exists"
        )
    # Other failures have innocent causes too, such as an attack that needs more steps.
    if any(row.decisive for row in failed):
        return "obfuscated", tuple(evidence)
    if evidence:
        return "suspect", tuple(evidence)
    still_open = [row for row in rows if row.result == "inconclusive"]
    if still_open:
        numbers = ", ".join(str(row.number) for row in still_open)
        word = "row" if len(still_open) == 1 else "rows"
        evidence.append(f"inconclusive: {word} {numbers}; audit more images, or allow more time")
    # A sham would have had to fail one of these: while they are open, nothing was ruled out.
    if any(row.needed for row in still_open):
        return "undecided", tuple(evidence)
    return "not detected", tuple(evidence)
