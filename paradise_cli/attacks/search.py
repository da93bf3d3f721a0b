"""The search for adversarial points: the suite on more and more images, at every eps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.subject import TransferSource
from paradise_cli.attacks.session.suite import (
    Break,
    StageResult,
    Suite,
    looks,
    run_in_fp32,
    run_suite,
    worst_case,
)
from paradise_cli.core.proportions import Proportion, clopper_pearson, hypergeometric
from paradise_cli.perturbations.threat import TOLERANCE

Broken = dict[int, Break]
"""Of each row that was broken, what broke it."""


@dataclass(frozen=True)
class Sample:
    """Of images that `stood` against a cheap suite, the `rows` that the whole one attacked too; of
    those `left` stood that as well.

    With more than one look at the interval each has a `part` of the error.
    """

    stood: frozenset[int]
    rows: tuple[int, ...]
    left: int
    part: float

    @property
    def standing(self) -> int:
        """How many stood against the cheap suite."""
        return len(self.stood)

    def scaled(self, count: int) -> Proportion:
        """How many of those that stood have what so many of the sample have, by this look's part of
        the error; of none drawn, none.
        """
        size, among = len(self.rows), self.standing
        if size == 0:
            return Proportion(0.0, 0.0, 0.0)
        ends = hypergeometric(count, size, among, 0.05 * self.part)
        return Proportion(among * count / size, *ends)

    @property
    def share(self) -> float:
        """That of the sample that stood."""
        return self.left / len(self.rows) if self.rows else 0.0


@dataclass(frozen=True)
class Found:
    """What was found on the first `n` images of the order.

    Rows `correct` are classified correctly. `results`, `broken` and `carried` (what was broken
    at a smaller eps already) are of the eps asked about; the `curve` has the rows broken at each.
    `looks` is 0 if the number of images was not chosen by looking at the interval. With a `sample`
    robust accuracy is estimated by that.
    """

    n: int
    correct: frozenset[int]
    results: list[StageResult]
    broken: Broken
    carried: Broken
    curve: tuple[tuple[float, frozenset[int]], ...]
    looks: int = 0
    sample: Sample | None = None

    @property
    def interval(self) -> Proportion:
        """Robust accuracy; exact, and wider for each look, if the looks decided when to stop.

        By a sample it is that of these n images.
        """
        if self.sample is not None:
            # What was broken outside of the sample is in the part that does not stand already.
            standing = self.sample.share * self.sample.standing - self.broken_otherwise[0]
            standing = min(standing, len(self.correct) - len(self.broken))
            low, high = self._by_sample(self.sample, 0.05)
            return Proportion(standing / self.n, low / self.n, high / self.n)
        standing = len(self.correct) - len(self.broken)
        if not self.looks:
            return Proportion.of(standing, self.n)
        # Looking again and again until it fits would make a 95% interval miss more often than
        # 1 time in 20: each look gets its share of the error.
        ends = clopper_pearson(standing, self.n, 0.05 / self.looks)
        return Proportion(standing / self.n, *ends)

    @property
    def broken_otherwise(self) -> tuple[int, int]:
        """How many images stood against the suites and were broken by the audit, or whatever else
        is on record: inside the sample and outside it. Without a sample, none.
        """
        if self.sample is None:
            return 0, 0
        broken, drawn = self.sample.stood & self.broken.keys(), {*self.sample.rows}
        fell = len(drawn) - self.sample.left
        return len(broken & drawn) - fell, len(broken - drawn)

    def _by_sample(self, sample: Sample, error: float) -> tuple[int, int]:
        """The least and most of these images that stand, over all looks missed with that error."""
        given = sample.left, len(sample.rows), sample.standing
        low, high = hypergeometric(*given, error * sample.part)
        inside, outside = self.broken_otherwise
        # Each of those inside stood against the suites, and now does not. Of those outside nobody
        # knows whether they would have.
        least = max(low - inside - outside, sample.left - inside)
        return least, min(high - inside, len(self.correct) - len(self.broken))

    @property
    def in_general(self) -> Proportion | None:
        """By a sample, robust accuracy on images of this kind: the errors of both choices joined.

        None without a sample.
        """
        if self.sample is None:
            return None
        # Half of the error for which of the images that stand were attacked, half for which images
        # there are.
        low, high = self._by_sample(self.sample, 0.025)
        ends = clopper_pearson(low, self.n, 0.025)[0], clopper_pearson(high, self.n, 0.025)[1]
        return Proportion(self.interval.value, *ends)

    @property
    def half_width(self) -> float:
        """How far the further end of the interval is off."""
        interval = self.interval
        return max(interval.high - interval.value, interval.value - interval.low)

    @property
    def kind(self) -> str:
        """The interval in words."""
        if self.sample is not None:
            return f"hypergeometric 95% for these {self.n:,} images, over up to {self.looks} looks"
        return f"Clopper-Pearson 95%, over {self.looks} looks" if self.looks else "Wilson 95%"


def search(
    session: Session,
    suite: Suite,
    settings: AttackSettings,
    order: Sequence[int],
    sources: Sequence[TransferSource],
) -> Found:
    """Attack more and more images, until the interval is narrow enough or there are no more."""
    ci = settings.ci
    sizes = [len(order)] if ci is None else list(looks(len(order)))
    last: Found | None = None
    # Every look goes on from the one before: the ledger has its runs.
    for n in sizes:
        with session.phase() as look:
            found = _at_every_eps(session, suite, settings, order[:n], sources)
            if look.unfinished and last is not None:
                # Of the larger sample most would stand because nobody came to attack them.
                look.discard()
                break
        # The interval is wider by the number of looks there may be, not of those there were.
        last = found if ci is None else replace(found, looks=len(sizes))
        if look.unfinished or ci is None or last.half_width <= ci:
            break
    assert last is not None
    return last


def _at_every_eps(
    session: Session,
    suite: Suite,
    settings: AttackSettings,
    rows: Sequence[int],
    sources: Sequence[TransferSource],
) -> Found:
    """The suite on these rows at each eps, from small to large."""
    right = session.subject.correct
    correct = frozenset(row for row in rows if bool(right[row]))
    broken: Broken = {}
    curve = []
    for level in settings.levels:
        # A ball holds the smaller ones: what broke there is broken here.
        carried = dict(broken)
        before = {row: each.entry for row, each in carried.items()}
        results = run_suite(session, suite, level, rows, carried=before, sources=sources)
        broken = {**worst_case(results, right), **carried}
        if level == settings.eps:
            # Only where the number is asked for: in fp32 a search takes twice as long.
            standing = [row for row in rows if row in correct and row not in broken]
            results += run_in_fp32(session, suite, level, standing, denominator=len(rows))
            broken = {**worst_case(results, right), **carried}
            here = (results, dict(broken), carried)
        curve.append((level, frozenset(broken)))
    return Found(len(rows), correct, *here, tuple(curve))


def with_all_else(
    session: Session, found: Found, settings: AttackSettings, order: Sequence[int]
) -> Found:
    """The same with the images that stood against the suite and were broken otherwise.

    That is by the audit, which looks at the first of the order, or by any other attack on record
    whose point lies close enough.
    """
    # By distance and not by the eps it was looked for at: row 4 of the audit searches larger balls.
    nearest = {}
    for row in order[: found.n]:
        entry = session.nearest(row)
        if entry is not None and row in found.correct:
            nearest[row] = entry

    def within(level: float) -> set[int]:
        return {row for row, entry in nearest.items() if entry.distance <= level + TOLERANCE}

    # The suite keeps the credit for what it broke.
    broken = dict(found.broken)
    looked_at = {*order[: settings.audited]}
    for row in within(settings.eps) - broken.keys():
        attack = nearest[row].label.partition(" {")[0]
        name = f"audit: {attack}" if row in looked_at else attack
        broken[row] = Break(name, nearest[row], False)
    curve = tuple((level, before | within(level)) for level, before in found.curve)
    return replace(found, broken=broken, curve=curve)
