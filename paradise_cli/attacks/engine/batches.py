"""The life of all batches: filled with jobs, taken some steps further, and looked at.

What runs in lanes (`lane_batch`) and what asks its queries ahead (`queries`) differ in how they
fill, advance and collect; when they do so is written here, once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from paradise_cli.attacks.engine.jobs import Goal, Job, Outcome, Queue, reached
from paradise_cli.attacks.protocol.lanes import Attack, Victim
from paradise_cli.core.threads import one_thread_each

Judge = Callable[[Tensor], Tensor]
"""Any number of images to the logits [N, classes] that decide about them."""
_WORTH_A_CALL = 2.0**27  # operations: a few milliseconds of a core
A = TypeVar("A", bound=Attack, covariant=True)


@dataclass(frozen=True)
class Compute:
    """Where attacks run: `width` images pass the classifier together, `blocks` such batches are
    under way.

    With `precision` bf16 the attack looks for its way in bf16, and if `compiled` in a compiled copy
    of the classifier; what counts is always decided by the classifier itself in fp32.
    """

    device: torch.device
    width: int
    blocks: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False
    random_width: int | None = None
    """The same for a classifier that answers at random and is asked several times at once, if not
    `width`.
    """
    widest: int | None = None
    """How many images of a light classifier may pass it together, if more than `width`."""
    asked: int | None = None
    """How many images were asked to be under way, if anybody did: `blocks` hold as many."""

    def for_work(self, operations: float) -> "Compute":
        """The same for a classifier that takes so many operations for an image."""
        if self.widest is None or not operations:
            return self
        # As wide as pays for the calls from Python and for what every call of a layer prepares.
        width = min(self.widest, max(self.width, int(_WORTH_A_CALL / operations)))
        blocks = self.blocks if self.asked is None else -(-self.asked // width)
        return replace(self, width=width, blocks=blocks)

    def searching(self) -> "torch.autocast | nullcontext[None]":
        """What the search runs within."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


@dataclass(frozen=True)
class Search(Generic[A]):
    """An attack that looks for its way in `victim`; a success needs the consent of all judges."""

    attack: A
    victim: Victim
    judges: tuple[Judge, ...]
    goal: Goal
    compute: Compute

    def confirmed(self, points: Tensor, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Which points [n, C, H, W] all judges find to have succeeded inside the ball, bool [n]."""
        holds = torch.ones(len(points), dtype=torch.bool, device=points.device)
        for judge in self.judges:
            # A surer judge is dearer, and is asked only about what passed those before.
            rows = holds.nonzero().flatten()
            if not len(rows):
                break
            some = points[rows]
            true = reached(self.goal, judge(some), labels[rows], targets[rows])
            # An attack may ask outside the ball, and is not trusted to stay within the pixels.
            true &= self.attack.threat.contains(some, images[rows])
            holds = holds.index_put((rows,), true)
        return holds


class Batch(Protocol):
    """Jobs that pass the classifier together, in a thread of their own."""

    def advance(self) -> None:
        """Take all some steps further."""

    def collect(self) -> list[Outcome]:
        """The outcomes of the jobs that are done; they leave the batch."""


class Work(Protocol):
    """All batches of one attack."""

    side_by_side: bool
    """Whether batches may advance at the same time."""

    def fill(self, queue: Queue) -> Sequence[Batch]:
        """Drop the jobs that no longer count, take as many as there is room for; the batches that
        have any.
        """

    def steps_left(self) -> int:
        """The most steps that the jobs under way may still take."""


def run(
    work: Work, jobs: Iterable[Job], steps: int, blocks: int, pulse: Callable[[int], None]
) -> Iterator[Outcome]:
    """Outcomes of jobs, of so many steps each, as they end.

    `pulse` gets how many of all steps are done, at first and after every look; those of jobs that
    ended early or were dropped count as done.
    """
    queue = Queue(jobs)
    total = steps * len(queue)
    if total:
        pulse(0)
    # A core for each batch is faster than all cores for one small batch after another.
    with one_thread_each(), ThreadPoolExecutor(blocks) as pool:
        while batches := work.fill(queue):
            each = pool.map if work.side_by_side else map
            list(each(lambda batch: batch.advance(), batches))
            for batch in batches:
                for outcome in batch.collect():
                    queue.note(outcome)
                    yield outcome
            pulse(total - steps * len(queue) - work.steps_left())
    if total:
        pulse(total)  # also where the last jobs were dropped
