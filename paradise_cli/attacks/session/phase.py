"""The parts of a session: phases with a deadline, processes that share it, how it is cut short."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from paradise_cli.attacks.session.subject import disagree

Decide = Callable[[Tensor], Tensor]
Pulse = Callable[[str, int, int, float], None]
"""Called with an attack's name, how much of it is done, of how much, and the share of images that
still stand.
"""


class TurnedRandom(Exception):
    """A classifier that was taken for one with a single answer to an image has given two."""


@dataclass(frozen=True)
class Shard:
    """This process's part of the images; the other processes attack theirs, into the same
    folder.
    """

    rank: int = 0
    world: int = 1
    any: Callable[[bool], bool] = lambda holds: holds
    """Whether it holds for some process, known once every one has come as far."""
    total: Callable[[Sequence[int]], list[int]] = list
    """The sums over all processes, known at the same time."""

    def own(self, rows: Sequence[int]) -> list[int]:
        """The rows of this process: by number, so that all processes agree without a word."""
        return [row for row in rows if row % self.world == self.rank]


@dataclass
class Phase:
    """A stretch of a session: what its attacks are for, and when they must end.

    `title` goes before their names wherever they are shown; the share of images still standing is
    one of `denominator` images; `deadline` is on the clock of `time.monotonic`. `unfinished` names
    the attacks that it cut short.
    """

    title: str
    denominator: int
    deadline: float | None
    pulse: Pulse
    unfinished: list[str] = field(default_factory=list)

    def cut_short_as(self, name: str) -> bool:
        """Whether anything was cut short, which from here on is known by that name."""
        if self.unfinished:
            self.unfinished[:] = [self.title + name]
        return bool(self.unfinished)

    def discard(self) -> None:
        """Take it as not entered: what it cut short is of no account."""
        self.unfinished.clear()


class TimeIsUp(Exception):
    """The deadline has passed."""


def asked_twice(judge: Decide) -> Decide:
    """The same decisions; of the first points that it decides on in an attack it is asked twice.

    A network may begin to answer at random once it has been asked often enough, or at points that
    no clean image resembles. Successes would then be granted by chance.
    """
    asked = False

    def confirmed(points: Tensor) -> Tensor:
        nonlocal asked
        logits = judge(points)
        # Once an attack: at every look it would cost a tenth of the search.
        if not asked:
            asked = True
            if disagree(logits, judge(points)):
                raise TurnedRandom
        return logits

    return confirmed


def silent(name: str, done: int, total: int, standing: float) -> None:
    """Progress that nobody looks at."""
