"""Placeholder for the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paradise_cli.attacks.arena import Arena
from paradise_cli.attacks.ledger import Entry


@dataclass(frozen=True)
class AuditRow:
    number: int
    name: str
    result: Literal["pass", "fail", "inconclusive", "not applicable"]
    measured: str
    threshold: str
    meaning: str
    n: int


@dataclass(frozen=True)
class Audit:
    verdict: Literal["not detected", "suspect", "obfuscated"]
    evidence: tuple[str, ...]
    rows: tuple[AuditRow, ...]
    curve: tuple[tuple[float, float, int], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(
    arena: Arena,
    eps: float,
    *,
    white: Mapping[int, Entry],
    black: Mapping[int, Entry],
    rows: Sequence[int],
    images: int = 200,
) -> Audit:
    return Audit("not detected", (), (), ())
