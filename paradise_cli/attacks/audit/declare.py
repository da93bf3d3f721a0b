"""How a row of the audit is declared: its number in method.md 5.5, its limits and their words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from paradise_cli.attacks.audit.context import Case
from paradise_cli.attacks.audit.evidence import Result


class Finding(NamedTuple):
    """What a row found: its result, what was measured in words, and on how many images."""

    result: Result
    measured: str
    n: int


NOT_APPLICABLE: Result = "not applicable"


@dataclass(frozen=True)
class Row:
    """One test of the audit.

    A failure of a `decisive` row shows that gradients are of no use, and not only that an attack
    could be stronger. While a `needed` row is open nothing can be concluded. A row with `after` is
    made only where one of these rows failed.
    """

    number: int
    name: str
    measure: Callable[..., Finding]
    limits: dict[str, float]
    passes: str
    means: str
    decisive: bool
    needed: bool
    after: frozenset[int]

    @property
    def threshold(self) -> str:
        """What passes, in words, with the limits in percent."""
        # As few digits as say the limit: people read 0.2%, not 0.20%.
        percent = {name: f"{100 * limit:.2g}" for name, limit in self.limits.items()}
        return self.passes.format(**percent).replace(" 1 points", " 1 point")

    def examine(self, case: Case) -> Finding:
        """Make the test."""
        return self.measure(case, **self.limits)


# Filled while the modules of rows are imported, and never after.
_DECLARED: dict[int, Row] = {}


def row(
    number: int,
    name: str,
    *,
    passes: str,
    means: str,
    decisive: bool = False,
    needed: bool = False,
    after: frozenset[int] = frozenset(),
    **limits: float,
) -> Callable[[Callable[..., Finding]], Row]:
    """Declare a row of the audit.

    The limits are shares between 0 and 1: the function gets them by name, and `passes` has their
    names in braces, so that a limit and the words for it cannot differ. Raises ValueError for a
    number that is taken.
    """
    # Two rows of one number would hide each other in every table.
    if number in _DECLARED:
        raise ValueError(f"row {number} is declared twice")

    def declare(measure: Callable[..., Finding]) -> Row:
        # What would show useless gradients must be known before anything is called sound.
        declared = Row(
            number, name, measure, limits, passes, means, decisive, needed or decisive, after
        )
        _DECLARED[number] = declared
        return declared

    return declare


def declared_rows() -> tuple[Row, ...]:
    """The rows declared so far, by number; `rows.py` has seen to it that these are all."""
    return tuple(_DECLARED[number] for number in sorted(_DECLARED))
