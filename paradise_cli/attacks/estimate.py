"""Two-phase estimation: a cheap suite on all images, the whole one on a sample of what stands.

docs/attack.md, Estimates.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import count, takewhile

from paradise_cli.attacks.search import Found, Sample
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.suite import (
    FIRST_LOOK,
    SUITES,
    StageResult,
    Suite,
    run_in_fp32,
    run_suite,
    worst_case,
)
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.proportions import hypergeometric
from paradise_cli.core.units import counted

CHEAP = "fast"
"""The suite of the first phase."""
_GROWTH = 1.5
"""Of the sample, from one look to the next."""


def estimated(
    session: Session, suite: Suite, settings: AttackSettings, order: Sequence[int]
) -> Found:
    """Robust accuracy under both suites, the second on more and more of the images that stand.

    It ends where the interval is as narrow as asked for. What it runs is on record as any other
    attack is. Raises UsageError for too few images, ParadiseError where time ends before the first
    sample has been attacked.
    """
    if len(order) < FIRST_LOOK:
        raise UsageError(
            f"estimate: {counted(len(order), 'image')}, and a sample takes {FIRST_LOOK} or more:"
            " leave it out"
        )
    first, standing = _first_phase(session, settings, order)
    assert settings.ci is not None  # as settings have it
    sizes = _sizes(order[: settings.audited], standing, settings.ci * len(order))
    last: Found | None = None
    for place, size in enumerate(sizes):
        rows = standing[:size]
        with session.phase() as look:
            results = _on_sample(session, suite, settings, rows, len(standing))
            if look.unfinished and last is None:
                raise _too_little(settings)
            if look.unfinished:
                look.discard()
                break
        broken = worst_case(results, session.subject.correct)
        left = sum(row not in broken for row in rows)
        sample = Sample(frozenset(standing), tuple(rows), left, _part(place))
        last = _found(session, order, [*first, *results], sample, len(sizes))
        if last.half_width <= settings.ci:
            break
    assert last is not None
    return last


def _first_phase(
    session: Session, settings: AttackSettings, order: Sequence[int]
) -> tuple[list[StageResult], list[int]]:
    """The cheap suite on all images, and those that stand, in their order."""
    right = session.subject.correct
    with session.phase() as phase:
        results = run_suite(session, SUITES[CHEAP], settings.eps, order)
        if phase.unfinished:
            raise _too_little(settings)
    broken = worst_case(results, right)
    return results, [row for row in order if bool(right[row]) and row not in broken]


def _part(place: int) -> float:
    """The part of the error that the look at this place has: half of it, a quarter, ..."""
    # The first look is meant to be the last, and should be as sharp as it can.
    return 0.5 ** (place + 1)


def _sizes(audited: Sequence[int], standing: Sequence[int], wanted: float) -> list[int]:
    """How many of the images that stand are attacked before each look, the last time all.

    The first sample is just large enough that, if it stands as a whole, at most so many as `wanted`
    of all can fall. And it holds those that the audit looks at: it judges the whole suite. Which
    images stand first in a random order depends on no attack, so a sample it is.
    """
    most, among = len(standing), set(audited)

    def suffices(size: int) -> bool:
        return most - hypergeometric(size, size, most, 0.05 * _part(0))[0] <= wanted

    enough = bisect_left(range(most), True, key=suffices)
    first = min(max(FIRST_LOOK, enough, sum(row in among for row in standing)), most)
    growing = (int(first * _GROWTH**times) for times in count())
    return [*takewhile(lambda size: size < most, growing), most]


def _on_sample(
    session: Session, suite: Suite, settings: AttackSettings, sample: Sequence[int], standing: int
) -> list[StageResult]:
    results = run_suite(session, suite, settings.eps, sample)
    broken = worst_case(results, session.subject.correct)
    left = [row for row in sample if row not in broken]
    results += run_in_fp32(session, suite, settings.eps, left, denominator=len(sample))
    on = f"on {len(sample):,} of {standing:,}"
    return [each.titled(f"{each.stage.name}, {on}") for each in results]


def _found(
    session: Session,
    order: Sequence[int],
    results: list[StageResult],
    sample: Sample,
    planned: int,
) -> Found:
    right = session.subject.correct
    correct = frozenset(row for row in order if bool(right[row]))
    return Found(len(order), correct, results, worst_case(results, right), {}, (), planned, sample)


def _too_little(settings: AttackSettings) -> ParadiseError:
    return ParadiseError(
        f"the time given, {settings.budget:g} s, ended before the first sample was attacked, and"
        " nothing can be estimated: give it more; the same call goes on from there"
    )
