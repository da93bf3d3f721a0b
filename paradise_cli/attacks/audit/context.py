"""What the rows of the audit share: the images, what the suite found, and attacks of several rows.

Names here: an image *breaks* when an attack finds a point in its ball that is misclassified, and
*stands* otherwise. Rows of images are row numbers of the session.
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
from paradise_cli.perturbations.threat import TOLERANCE, radius_text

PGD_STEPS = 100
COMPARISON_STEPS = 50
"""Steps of each run where a row compares several with each other."""
CURVE_STEPS = 20
CURVE = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Multiples of eps at which the curve of accuracy under PGD is measured."""
SQUARE_QUERIES = 5000
SQUARE_IMAGES = 64
"""Images at most that Square is run on: enough for row 2, and 5,000 queries each are dear."""
LABEL_QUERIES = 1000
"""Of each of its four runs of an attack that reads the class alone."""
Rows = frozenset[int]


@dataclass(frozen=True)
class Siblings:
    """Networks of which it is known what breaks, each with images and a ledger in its own session.

    `base` was trained without any defence, and should break, at the audited eps or a large one. Of
    `reference` the rows `known` are misclassified, or broken by AutoAttack at `reference_eps`, and
    no others; what is found on it is remembered in the user's cache with `keep`.
    """

    base: Session | None = None
    reference: Session | None = None
    known: frozenset[int] = frozenset()
    reference_eps: float = 8 / 255
    keep: bool = False

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Those there are."""
        return tuple(each for each in (self.base, self.reference) if each is not None)


@dataclass(frozen=True)
class Case:
    """A classifier under audit at `eps` on some rows of its session.

    `by_gradients` are entries of images that the suite broke with gradients, and `by_black_box` of
    those that only a black box broke. `queries` are the most of a black box for each image, `draws`
    the random points of each kind.
    """

    session: Session
    eps: float
    rows: tuple[int, ...]
    by_gradients: Mapping[int, Entry]
    by_black_box: Mapping[int, Entry]
    siblings: Siblings = Siblings()
    queries: int = SQUARE_QUERIES
    draws: int = 1000

    @property
    def subject(self) -> Subject:
        """The classifier with its images."""
        return self.session.subject

    @property
    def n(self) -> int:
        """How many images there are, with those that are misclassified as they are."""
        # They count as broken, as in the accuracy that is reported.
        return len(self.rows)

    @cached_property
    def correct(self) -> Rows:
        """The rows that are classified correctly."""
        return frozenset(row for row in self.rows if bool(self.subject.correct[row]))

    @cached_property
    def pgd(self) -> Mapping[int, Entry]:
        """PGD on cross-entropy, 100 steps of eps / 4: the attack that most rows compare with."""
        return self.session.attack(
            "pgd", self.eps, self._in_order(self.correct), hyper={"steps": PGD_STEPS}
        )

    def pgd_within(self, steps: int) -> Rows:
        """What `pgd` broke in its first steps: exactly what so many steps alone would have."""
        # The first point asked about comes before the first step.
        return frozenset(row for row, entry in self.pgd.items() if entry.step <= steps + 1)

    @cached_property
    def by_loss(self) -> dict[str, Rows]:
        """What PGD breaks with each of three losses."""
        # Each loss fails where another does not: cross-entropy where the softmax saturates, the
        # margin where the second best class is a bad target, DLR where scales differ.
        return {
            "ce": frozenset(self.pgd),
            "margin": self.broken_by("pgd", steps=PGD_STEPS, loss="margin"),
            "dlr": self.broken_by("pgd", steps=PGD_STEPS, loss="dlr"),
        }

    @cached_property
    def standing(self) -> Rows:
        """What stands against gradients: those of the suite, and PGD with three losses."""
        # Not what one attack left: a black box proves nothing where another loss would do as well.
        return self.correct - frozenset(self.by_gradients).union(*self.by_loss.values())

    @property
    def unbroken(self) -> Rows:
        """What stands against everything that was tried until now, also within larger balls."""
        return frozenset(row for row in self.correct if not self._broken_within_eps(row))

    def _broken_within_eps(self, row: int) -> bool:
        # An attack at a large eps may have found a point at a small distance.
        entry = self.session.nearest(row)
        return entry is not None and entry.distance <= self.eps + TOLERANCE

    @property
    def square_rows(self) -> tuple[int, ...]:
        """The rows that Square is for."""
        # Rows are in a random order, so that the first are as good a sample as any.
        return self.rows[:SQUARE_IMAGES]

    @cached_property
    def square(self) -> Rows:
        """What Square breaks of what stands; where its other runs ended is kept."""
        return frozenset(
            self.session.attack(
                "square",
                self.eps,
                self._in_order(self.standing & frozenset(self.square_rows)),
                hyper=self.square_settings,
                keep_ends=True,  # row 10 goes on from there
            )
        )

    @cached_property
    def square_ends(self) -> Mapping[int, Tensor]:
        """The best points of Square on what stood against it too."""
        rows = self._in_order((self.standing & frozenset(self.square_rows)) - self.square)
        return self.session.ends("square", self.eps, rows, hyper=self.square_settings)

    @property
    def square_settings(self) -> dict[str, Any]:
        """What Square is run with."""
        # Those of the suite `standard`: its schedule is made for 10,000 queries, and would end
        # with windows that are too large if fewer than half of them were asked.
        return {"queries": self.queries, "rescale": self.queries < SQUARE_QUERIES}

    @property
    def grey_eps(self) -> float:
        """The eps within which every image can be made grey, so that all are alike."""
        # Black and white are both half of the range away from grey; in L2 that adds up by pixels.
        return 0.5 if self.subject.norm == "linf" else math.sqrt(self.subject.images[0].numel()) / 2

    @cached_property
    def curve(self) -> list[tuple[float, Rows]]:
        """What PGD breaks at each eps, every one attacked anew: from 0 to where all is grey."""
        # Far beyond the grey one nothing new would be learnt.
        smaller = {factor * self.eps for factor in CURVE if factor * self.eps < self.grey_eps}
        found: list[tuple[float, Rows]] = [(0.0, frozenset())]
        for eps in sorted(smaller | {self.grey_eps}):
            if eps == self.eps:
                # The only point that another attack has already passed through.
                broken = self.pgd_within(CURVE_STEPS)
            else:
                broken = self.broken_by("pgd", eps=eps, steps=CURVE_STEPS)
            found.append((eps, broken))
        return found

    def broken_by(
        self,
        name: str,
        *,
        eps: float | None = None,
        rows: Rows | None = None,
        victim: Victim | None = None,
        begin: Mapping[int, Tensor] | None = None,
        tag: str = "",
        **hyper: Any,
    ) -> Rows:
        """The rows that an attack breaks, of all correct ones unless others are given."""
        return frozenset(
            self.session.attack(
                name,
                self.eps if eps is None else eps,
                self._in_order(self.correct if rows is None else rows),
                hyper=hyper,
                victim=victim,
                begin=begin,
                tag=tag,
            )
        )

    def words_for(self, eps: float) -> str:
        """A radius as people write it."""
        return radius_text(self.subject.norm, eps)

    def accuracy(self, broken: Rows) -> float:
        """The share of the images that is classified correctly and not among these."""
        return len(self.correct - broken) / max(1, self.n)

    def gap(self, a: Rows, b: Rows, limit: float, *, shares: float = 1) -> Gap:
        """How much lower accuracy is under a than under b."""
        # Paired: images on which both agree say nothing about the difference.
        return Gap(len(a - b), len(b - a), self.n, limit, shares)

    def further(
        self, broken: Rows, limit: float, *, n: int | None = None, shares: float = 1
    ) -> Gap:
        """How much lower accuracy would be without these images, which stood until now."""
        # Nested: accuracy can only fall, so that the other side has no images of its own.
        return Gap(len(broken), None, self.n if n is None else n, limit, shares)

    def on(self, session: Session, eps: float) -> "Case":
        """The same audit of all images of another session, of which no suite found anything."""
        rows = tuple(range(len(session.subject.images)))
        return replace(self, session=session, eps=eps, rows=rows, by_gradients={}, by_black_box={})

    def _in_order(self, rows: Rows) -> list[int]:
        # Sets have no order, and the same audit must make the same runs in the same order.
        return [row for row in self.rows if row in rows]
