"""What the rows of the audit share: the images, what the suite found, the attacks that several rows
need.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from paradise_cli.attacks.audit.evidence import Gap
from paradise_cli.attacks.protocol.lanes import Victim
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject

BASE_STEPS = 100
CURVE_STEPS, CURVE = 20, (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Of PGD at these multiples of eps."""
Broken = frozenset[int]
"""Rows that some attack broke."""


@dataclass(frozen=True)
class Siblings:
    """Networks of which it is known what falls, each attacked in a session of its own.

    `base` was trained without any defence, and should fall, at the audited eps or a large one. Of
    `reference` the rows `known` are misclassified, or fall to AutoAttack at `reference_eps`, and no
    others.
    """

    base: Session | None = None
    reference: Session | None = None
    known: frozenset[int] = frozenset()
    reference_eps: float = 8 / 255

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Those there are."""
        return tuple(each for each in (self.base, self.reference) if each is not None)


@dataclass(frozen=True)
class Case:
    """A classifier under audit at `eps` on some rows of its images; all else as of `audit`."""

    session: Session
    eps: float
    rows: tuple[int, ...]
    white: Mapping[int, Entry]
    black: Mapping[int, Entry]
    siblings: Siblings = Siblings()
    queries: int = 1000

    @property
    def subject(self) -> Subject:
        """The classifier with its images."""
        return self.session.subject

    @property
    def n(self) -> int:
        """Images, with those that are misclassified as they are."""
        return len(self.rows)

    @cached_property
    def right(self) -> Broken:
        """The rows that are classified rightly."""
        return frozenset(row for row in self.rows if bool(self.subject.correct[row]))

    @cached_property
    def base(self) -> Mapping[int, Entry]:
        """PGD on cross-entropy, 100 steps of eps / 4: the attack that most rows compare with."""
        return self.session.attack(
            "pgd", self.eps, self._order(self.right), hyper={"steps": BASE_STEPS}
        )

    def base_within(self, steps: int) -> Broken:
        """What the base attack broke in its first steps: just what so many steps alone would
        have.
        """
        return frozenset(row for row, entry in self.base.items() if entry.step <= steps + 1)

    @cached_property
    def losses(self) -> dict[str, Broken]:
        """The base attack and the same on the margin and on DLR."""
        others = {
            loss: self.broken("pgd", steps=BASE_STEPS, loss=loss) for loss in ("margin", "dlr")
        }
        return {"ce": frozenset(self.base), **others}

    @cached_property
    def fell(self) -> Broken:
        """What fell to gradients: those of the suite, and PGD on three losses."""
        return self.right & frozenset(self.white).union(*self.losses.values())

    @cached_property
    def standing(self) -> Broken:
        """What is classified rightly and did not fall to gradients."""
        return self.right - self.fell

    @cached_property
    def square(self) -> Broken:
        """What falls to Square of all that stands; where its other runs ended is kept for
        `square_ends`.
        """
        rows, hyper = self._order(self.standing), {"queries": self.queries}
        return frozenset(self.session.attack("square", self.eps, rows, hyper=hyper, keep_ends=True))

    @cached_property
    def square_ends(self) -> Mapping[int, Tensor]:
        """The best points of Square on what stood against it."""
        rows = self._order(self.standing - self.square)
        return self.session.ends("square", self.eps, rows, hyper={"queries": self.queries})

    @property
    def grey(self) -> float:
        """The eps within which every image can be made grey, so that all are alike."""
        return 0.5 if self.subject.norm == "linf" else math.sqrt(self.subject.images[0].numel()) / 2

    @cached_property
    def curve(self) -> list[tuple[float, Broken]]:
        """What PGD breaks at each eps, every one attacked anew; the first is 0, the last the grey
        one.
        """
        found: list[tuple[float, Broken]] = [(0.0, frozenset())]
        for eps in sorted(
            {*(factor * self.eps for factor in CURVE if factor * self.eps < self.grey), self.grey}
        ):
            same = eps == self.eps
            broken = (
                self.base_within(CURVE_STEPS)
                if same
                else self.broken("pgd", eps=eps, steps=CURVE_STEPS)
            )
            found.append((eps, broken))
        return found

    def broken(
        self,
        name: str,
        *,
        eps: float | None = None,
        rows: Broken | None = None,
        victim: Victim | None = None,
        begin: Mapping[int, Tensor] | None = None,
        tag: str = "",
        **hyper: Any,
    ) -> Broken:
        """Rows that an attack breaks, of all that are classified rightly unless others are
        given.
        """
        found = self.session.attack(
            name,
            self.eps if eps is None else eps,
            self._order(self.right if rows is None else rows),
            hyper=hyper,
            victim=victim,
            begin=begin,
            tag=tag,
        )
        return frozenset(found)

    def accuracy(self, broken: Broken) -> float:
        """Share of the images that is classified rightly and not among these."""
        return len(self.right - broken) / max(1, self.n)

    def gap(self, a: Broken, b: Broken, threshold: float, *, shares: int = 1) -> Gap:
        """How much lower accuracy is under a than under b."""
        return Gap(len(a - b), len(b - a), self.n, threshold, shares)

    def further(self, broken: Broken, threshold: float) -> Gap:
        """How much lower accuracy would be without these images, which stood until now."""
        return Gap(len(broken), None, self.n, threshold)

    def on(self, session: Session, eps: float) -> "Case":
        """The same of all images of another session."""
        rows = tuple(range(len(session.subject.images)))
        return replace(self, session=session, eps=eps, rows=rows, white={}, black={})

    def _order(self, rows: Broken) -> list[int]:
        return [row for row in self.rows if row in rows]
