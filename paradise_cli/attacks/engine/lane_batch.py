"""Runs one attack on many images: lanes filled again as they fall free, every batch full and of one
shape.

Kernels round differently at different batch shapes, so the classifier always sees `width` images;
what falls out of a lane then depends on its job alone, and neither on its neighbours nor on how
many lanes there are. Of several runs on one image the first in the order of jobs that succeeds
counts, whichever ended first.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import (
    Answer,
    Attack,
    Lanes,
    State,
    Victim,
    input_gradient,
    kept,
)
from paradise_cli.core.threads import one_thread_each

Goal = Literal["fool", "reach", "none"]
"""When a run ends early: at a wrong class, at the target, or never."""


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

    def searching(self) -> "torch.autocast | nullcontext[None]":
        """What the search runs within."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


@dataclass(frozen=True)
class Job:
    """Run number `run` on one image; of an image's runs, lower numbers count first."""

    image: int
    run: int
    target: int
    key: int


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `point` [C, H, W] is where it succeeded, or else where it ended."""

    job: Job
    succeeded: bool
    point: Tensor
    step: int


class Falls:
    """Of each image that fell, the lowest run that succeeded; later runs on it no longer count."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def note(self, outcome: Outcome) -> None:
        """Learn how a job ended."""
        if outcome.succeeded:
            job = outcome.job
            self._first[job.image] = min(job.run, self._first.get(job.image, job.run))

    def leave_open(self, job: Job) -> bool:
        """Whether a job may still count."""
        return self._first.get(job.image, job.run) >= job.run

    def next_of(self, waiting: deque[Job], room: int) -> list[Job]:
        """Take the next jobs that may still count, as far as there is room; others among them are
        dropped.
        """
        fresh: list[Job] = []
        while waiting and len(fresh) < room:
            job = waiting.popleft()
            if self.leave_open(job):
                fresh.append(job)
        return fresh


def run_jobs(
    attack: Attack,
    victim: Victim,
    judge: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    jobs: Iterable[Job],
    compute: Compute,
    *,
    goal: Goal = "fool",
    confirm: Callable[[Tensor], Tensor] | None = None,
    begin: Mapping[int, Tensor] | None = None,
    pulse: Callable[[int], None] = lambda done: None,
) -> Iterator[Outcome]:
    """Outcomes of jobs on images [N, C, H, W] with labels [N], as they end.

    Jobs that come after a success on the same image are dropped, without an outcome. `judge` gives
    the logits by which a success is confirmed, at any number of images, and `confirm`, where it is
    given, those of a surer look at what passed; a run whose success is not confirmed goes on.
    `begin` are points to start from, by image. `pulse` is told at first and every few steps how
    many are done, of steps x jobs in all; those of jobs that ended early or were dropped count as
    done.
    """
    waiting = deque(sorted(jobs, key=lambda job: (job.run, job.image)))
    falls = Falls()
    blocks = [_Block(attack, victim, images, compute, goal) for _ in range(compute.blocks)]
    period, total = _period(attack), attack.steps * len(waiting)
    judges = [judge] if confirm is None else [judge, confirm]
    if total:
        pulse(0)
    with one_thread_each(), ThreadPoolExecutor(compute.blocks) as pool:
        while True:
            for block in blocks:
                block.fill(waiting, falls, images, labels, begin or {})
            busy = [block for block in blocks if block.jobs]
            if not busy:
                if total:
                    pulse(total)  # also where the last jobs were dropped
                return
            list(pool.map(lambda block: block.advance(period), busy))
            for block in busy:
                for outcome in block.collect(judges):
                    falls.note(outcome)
                    yield outcome
            left = sum(block.steps_left() for block in blocks)
            pulse(total - attack.steps * len(waiting) - left)


def reached(goal: Goal, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Whether a run may end, bool [B]; logits that are not numbers are no class, neither right nor
    target.
    """
    predicted = logits.argmax(1)
    if goal == "fool":
        return (predicted != labels) | ~logits.isfinite().all(1)
    if goal == "reach":
        return (predicted == targets) & logits.isfinite().all(1)
    return torch.zeros_like(predicted, dtype=torch.bool)


def _period(attack: Attack) -> int:
    """Steps between two looks at which lanes are done, such that little is left over at the end."""
    periods = [period for period in range(min(attack.steps, 5), 11) if period % attack.cycle == 0]
    return min(periods, key=lambda period: (-attack.steps % period, -period))


class _Block:
    """`width` lanes that pass the classifier together."""

    def __init__(
        self, attack: Attack, victim: Victim, images: Tensor, compute: Compute, goal: Goal
    ) -> None:
        self.attack, self.victim, self.compute, self.goal = attack, victim, compute, goal
        width, device = compute.width, compute.device
        self.jobs: dict[int, Job] = {}  # by lane
        self._taken: dict[int, int] = {}  # steps, by lane, as the host knows them
        blank = torch.zeros((width, *images.shape[1:]), device=device)
        none = torch.zeros(width, dtype=torch.int64, device=device)
        self.lanes = Lanes(blank, blank, none, none, none, none)
        self.state: State = {}
        # The point that fooled with the highest loss since the last look, and how many were asked
        # until then.
        self.found, self.found_at, self.found_loss = blank, none, torch.zeros(width, device=device)
        self.active = torch.zeros(width, dtype=torch.bool, device=device)
        self.broken, self.frozen = self.active, self.active
        # Where bf16 has claimed a success that fp32 denied, it will for many steps: these do not
        # halt a run.
        self.denied = self.active

    def fill(
        self,
        waiting: deque[Job],
        falls: Falls,
        images: Tensor,
        labels: Tensor,
        begin: Mapping[int, Tensor],
    ) -> None:
        """Drop what no longer counts and give the free lanes the next jobs."""
        for lane, job in list(self.jobs.items()):
            if not falls.leave_open(job):
                del self.jobs[lane]
        free = [lane for lane in range(self.compute.width) if lane not in self.jobs]
        fresh = dict(zip(free, falls.next_of(waiting, len(free)), strict=False))
        self.jobs |= fresh
        self._taken |= dict.fromkeys(fresh, 0)
        device = self.compute.device
        self.active = torch.tensor([lane in self.jobs for lane in range(self.compute.width)]).to(
            device
        )
        if not fresh:
            return
        lanes = [*fresh]
        rows = [job.image for job in fresh.values()]
        given = Lanes(
            images[rows],
            torch.stack([begin.get(row, images[row]) for row in rows]),
            labels[rows],
            torch.tensor([job.target for job in fresh.values()]),
            torch.tensor([job.key for job in fresh.values()]),
            torch.zeros(len(rows), dtype=torch.int64),
        )
        place = torch.tensor(lanes, device=device)
        self.lanes = Lanes(
            *(
                old.index_copy(0, place, new.to(device))
                for old, new in zip(self.lanes, given, strict=True)
            )
        )
        is_fresh = torch.zeros_like(self.active).index_fill(0, place, True)
        with torch.no_grad(), self.compute.searching():
            started = self.attack.start(self.lanes, self.victim)
        old = self.state or started
        self.state = {name: kept(is_fresh, value, old[name]) for name, value in started.items()}
        self.broken, self.frozen = self.broken & ~is_fresh, self.frozen & ~is_fresh
        self.denied = self.denied & ~is_fresh

    def advance(self, steps: int) -> None:
        """So many steps, without waiting for the device."""
        for step in range(steps):
            x, lanes = self.state["x"], self.lanes
            answer = self._ask(x, self.attack.gradient and step % self.attack.cycle == 0)
            hit = reached(self.goal, answer.logits, lanes.labels, lanes.targets)
            hit &= self.attack.threat.contains(x, lanes.images) & self.active & ~self.frozen
            last = lanes.step >= self.attack.steps - 1
            surer = hit & (~self.broken | (answer.loss > self.found_loss))
            self.found = kept(surer, x, self.found)
            self.found_at = torch.where(surer, lanes.step + 1, self.found_at)
            self.found_loss = torch.where(surer, answer.loss, self.found_loss)
            self.broken = self.broken | hit
            moved = self.attack.step(lanes, self.state, answer)
            moving = self.active & ~self.frozen
            # After the last answer x stays where it was judged, and the rest learns of the answer.
            moved["x"] = kept(last, x, moved["x"])
            self.state = {
                name: kept(moving, value, self.state[name]) for name, value in moved.items()
            }
            self.lanes = lanes._replace(step=lanes.step + moving)
            self.frozen = (hit & ~self.denied) | last | self.frozen | self._ended()

    def steps_left(self) -> int:
        """Of the jobs under way."""
        return sum(max(0, self.attack.steps - self._taken[lane]) for lane in self.jobs)

    def collect(self, judges: Sequence[Callable[[Tensor], Tensor]]) -> list[Outcome]:
        """The jobs that are done, their lanes free again; a success that one of the judges denies
        goes on.
        """
        ended = (self.lanes.step >= self.attack.steps) | self._ended()
        broken, over, step = self.broken.tolist(), ended.tolist(), self.lanes.step.tolist()
        self._taken = {lane: step[lane] for lane in self.jobs}
        confirmed = self._confirmed([lane for lane in self.jobs if broken[lane]], judges)
        if self.compute.precision == "bf16":  # the search may have overlooked what fp32 would grant
            if (
                len(judges) == 1
            ):  # answers at random are denied by chance: each further claim is judged
                self.denied = self.denied | self.broken
            late = [lane for lane in self.jobs if over[lane] and lane not in confirmed]
            is_late = torch.tensor([lane in late for lane in range(len(over))], device=ended.device)
            self.found = kept(is_late, self.attack.result(self.state), self.found)
            self.found_at = torch.where(is_late, self.lanes.step, self.found_at)
            confirmed += self._confirmed(late, judges)
        done = [lane for lane in self.jobs if lane in confirmed or over[lane]]
        self.broken = torch.zeros_like(self.broken)
        self.frozen = ended
        if not done:
            return []
        place = torch.tensor(done, device=self.compute.device)
        fell = torch.tensor([lane in confirmed for lane in done], device=place.device)
        ends = kept(fell, self.found[place], self.attack.result(self.state)[place]).cpu()
        asked = torch.where(fell, self.found_at[place], self.lanes.step[place]).tolist()
        return [
            Outcome(self.jobs.pop(lane), lane in confirmed, end.contiguous(), steps)
            for lane, end, steps in zip(done, ends, asked, strict=True)
        ]

    def _confirmed(
        self, lanes: list[int], judges: Sequence[Callable[[Tensor], Tensor]]
    ) -> list[int]:
        """Those of the lanes whose points all judges find to have succeeded, inside the ball."""
        for judge in judges:
            if lanes:
                place = torch.tensor(lanes, device=self.compute.device)
                points, given = self.found[place], self.lanes
                true = reached(self.goal, judge(points), given.labels[place], given.targets[place])
                true &= self.attack.threat.contains(points, given.images[place])
                lanes = [lane for lane, holds in zip(lanes, true.tolist(), strict=True) if holds]
        return lanes

    def _ended(self) -> Tensor:
        """Which lanes end before all steps, by their own account, bool [width]."""
        return self.state.get("ended", torch.zeros_like(self.active))

    def _ask(self, x: Tensor, wanted: bool) -> Answer:
        asked = x.detach().requires_grad_(wanted)
        with torch.set_grad_enabled(wanted), self.compute.searching():
            logits, loss = self.attack.evaluate(self.victim, asked, self.lanes, self.state)
        gradient = input_gradient(loss, asked) if wanted else torch.empty(0)
        return Answer(logits.detach().float(), loss.detach().float(), gradient)
