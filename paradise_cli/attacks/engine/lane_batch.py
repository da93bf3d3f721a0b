"""Runs one attack on many images in lanes that are filled again as they fall free.

Kernels round differently at different batch shapes, so the classifier always sees `width` images;
what comes out of a lane then depends on its job alone, and neither on its neighbours nor on how
many lanes there are. `tests/reference_lane.py` shows in plain lines what happens to one lane.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute, Judge, Search, run
from paradise_cli.attacks.engine.jobs import Goal, Job, Outcome, Queue, reached
from paradise_cli.attacks.protocol.lanes import (
    Answer,
    Attack,
    Lanes,
    State,
    Victim,
    input_gradient,
    kept,
)
from paradise_cli.core.machine import whole_batch


def run_jobs(
    attack: Attack,
    victim: Victim,
    judge: Judge,
    images: Tensor,
    labels: Tensor,
    jobs: Iterable[Job],
    compute: Compute,
    *,
    goal: Goal = "fool",
    confirm: Judge | None = None,
    begin: Mapping[int, Tensor] | None = None,
    pulse: Callable[[int], None] = lambda done: None,
) -> Iterator[Outcome]:
    """Outcomes of jobs on images [N, C, H, W] with labels [N], as they end.

    Jobs that come after a success on the same image are dropped, without an outcome. `judge` gives
    the logits by which a success is confirmed, and `confirm`, where it is given, those of a surer
    look at what passed; a run whose success is denied goes on. `begin` are points to start from, by
    image. `pulse` gets the number of steps done, of steps x jobs in all, every few steps.
    """
    judges = (judge,) if confirm is None else (judge, confirm)
    search = Search(attack, victim, judges, goal, compute)
    work = _Blocks(search, _Given(images, labels, begin or {}))
    return run(work, jobs, attack.steps, compute.blocks, pulse)


@dataclass(frozen=True)
class LaneStatus:
    """Where each lane stands: [width], and `found` [width, C, H, W]. A lane is a row of all fields.

    | field     | true for a lane                              | set by        | cleared by       |
    |-----------|----------------------------------------------|---------------|------------------|
    | `active`  | that has a job                               | `filled`      | `filled`         |
    | `claimed` | whose point reached the goal since last look | `answered`    | `looked_at`      |
    | `frozen`  | that waits for the look and takes no step    | `answered`    | `looked_at`      |
    | `denied`  | whose success in bf16 was denied in fp32     | `doubted`     | `filled` (fresh) |

    `found` is the claimed point of the highest loss since the last look, `found_at` the number of
    points asked about until then and `found_loss` its loss; they mean nothing where none is
    claimed.

    One round: `filled` gives free lanes a job; `answered` follows every step; at the look what is
    claimed goes to the judges, and `looked_at` lets go on whoever is not over.
    """

    active: Tensor
    claimed: Tensor
    frozen: Tensor
    denied: Tensor
    found: Tensor
    found_at: Tensor
    found_loss: Tensor

    @classmethod
    def idle(cls, images: Tensor) -> "LaneStatus":
        """No lane has a job; `images` [width, C, H, W] hold the places."""
        no = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        return cls(no, no, no, no, images, no.long(), no.float())

    def filled(self, active: Tensor, fresh: Tensor) -> "LaneStatus":
        """Jobs dropped and taken: `fresh` lanes have a new one."""
        return replace(
            self,
            active=active,
            claimed=self.claimed & ~fresh,
            frozen=self.frozen & ~fresh,
            denied=self.denied & ~fresh,
        )

    def answered(
        self, x: Tensor, loss: Tensor, claims: Tensor, asked: Tensor, over: Tensor
    ) -> "LaneStatus":
        """A step taken: which lanes claim a success at x, and which are `over` in any case."""
        surer = claims & (~self.claimed | (loss > self.found_loss))
        return replace(
            self,
            claimed=self.claimed | claims,
            # Where fp32 has denied one claim of bf16 it will deny the next: those do not halt.
            frozen=(claims & ~self.denied) | over | self.frozen,
            found=kept(surer, x, self.found),
            found_at=torch.where(surer, asked, self.found_at),
            found_loss=torch.where(surer, loss, self.found_loss),
        )

    def doubted(self) -> "LaneStatus":
        """What is claimed was denied, or is done and of no more account."""
        return replace(self, denied=self.denied | self.claimed)

    def claiming(self, which: Tensor, points: Tensor, asked: Tensor) -> "LaneStatus":
        """With these points as what the lanes `which` found."""
        return replace(
            self,
            found=kept(which, points, self.found),
            found_at=torch.where(which, asked, self.found_at),
        )

    def looked_at(self, over: Tensor) -> "LaneStatus":
        """Claims are settled, and only what is over waits on."""
        return replace(self, claimed=torch.zeros_like(self.claimed), frozen=over)


@dataclass(frozen=True)
class _Given:
    """Images [N, C, H, W], their labels [N], and where to begin, for some of them."""

    images: Tensor
    labels: Tensor
    begin: Mapping[int, Tensor]

    def lanes(self, jobs: list[Job]) -> Lanes:
        """What the lanes of these jobs are given, on the host."""
        rows = [job.image for job in jobs]
        return Lanes(
            self.images[rows],
            torch.stack([self.begin.get(row, self.images[row]) for row in rows]),
            self.labels[rows],
            torch.tensor([job.target for job in jobs]),
            torch.tensor([job.key for job in jobs]),
            torch.zeros(len(rows), dtype=torch.int64),
        )


class _Blocks:
    """All lanes, in as many batches as there are threads."""

    side_by_side = True

    def __init__(self, search: Search[Attack], given: _Given) -> None:
        blocks = search.compute.blocks if len(given.images) else 0  # lanes are never empty
        self._blocks = [_Block(search, given) for _ in range(blocks)]

    def fill(self, queue: Queue) -> list["_Block"]:
        for block in self._blocks:
            block.fill(queue)
        return [block for block in self._blocks if block.jobs]

    def steps_left(self) -> int:
        return sum(block.steps_left() for block in self._blocks)


class _Block:
    """`width` lanes that pass the classifier together."""

    def __init__(self, search: Search[Attack], given: _Given) -> None:
        self.search, self.given = search, given
        self.attack, self.compute = search.attack, search.compute
        self.jobs: dict[int, Job] = {}  # by lane
        self._taken: dict[int, int] = {}  # steps, by lane, as the host knows them
        width, device = self.compute.width, self.compute.device
        # Lanes without a job stay in the batch, whose shape is fixed, and ask about what was there:
        # at first a given image, as a classifier need not answer another one.
        idle = whole_batch(given.images[:1], width).to(device)
        label = whole_batch(given.labels[:1], width).to(device)
        none = torch.zeros_like(label)
        self.lanes = Lanes(idle, idle, label, none, none, none)
        self.state: State = {}
        self.status = LaneStatus.idle(idle)

    def fill(self, queue: Queue) -> None:
        """Drop what no longer counts and give the free lanes the next jobs."""
        for lane, job in list(self.jobs.items()):
            if not queue.counts(job):
                del self.jobs[lane]
        # A lane keeps its job until that has ended: moving jobs together would cost copies.
        free = [lane for lane in range(self.compute.width) if lane not in self.jobs]
        fresh = dict(zip(free, queue.take(len(free)), strict=False))
        self.jobs |= fresh
        self._taken |= dict.fromkeys(fresh, 0)
        is_fresh = self._mask(fresh)
        self.status = self.status.filled(self._mask(self.jobs), is_fresh)
        if fresh:
            self._start(fresh, is_fresh)

    def _start(self, fresh: Mapping[int, Job], is_fresh: Tensor) -> None:
        device = self.compute.device
        place = torch.tensor([*fresh], device=device)
        given = self.given.lanes([*fresh.values()])
        pairs = zip(self.lanes, given, strict=True)
        self.lanes = Lanes(*(old.index_copy(0, place, new.to(device)) for old, new in pairs))
        # All lanes start anew, in the one shape, and those under way go on as they were.
        with torch.no_grad(), self.compute.searching():
            started = self.attack.start(self.lanes, self.search.victim)
        old_state = self.state or started
        self.state = {
            name: kept(is_fresh, value, old_state[name]) for name, value in started.items()
        }

    def advance(self) -> None:
        """Some steps, without waiting for the device."""
        for step in range(period_of(self.attack)):
            x, lanes, status = self.state["x"], self.lanes, self.status
            answer = self._ask(x, self.attack.gradient and step % self.attack.cycle == 0)
            moving = status.active & ~status.frozen
            claims = reached(self.search.goal, answer.logits, lanes.labels, lanes.targets)
            claims &= self.attack.threat.contains(x, lanes.images) & moving
            last = lanes.step >= self.attack.steps - 1
            moved = self.attack.step(lanes, self.state, answer)
            # After the last answer x stays where it was judged, and the rest learns of the answer.
            moved["x"] = kept(last, x, moved["x"])
            self.state = {
                name: kept(moving, value, self.state[name]) for name, value in moved.items()
            }
            self.lanes = lanes._replace(step=lanes.step + moving)
            self.status = status.answered(
                x, answer.loss, claims, asked=self.lanes.step, over=last | self._ended()
            )

    def steps_left(self) -> int:
        """Of the jobs under way."""
        return sum(max(0, self.attack.steps - self._taken[lane]) for lane in self.jobs)

    def collect(self) -> list[Outcome]:
        """The jobs that are done, their lanes free again; a success that a judge denies goes on."""
        ended = (self.lanes.step >= self.attack.steps) | self._ended()
        # The look is the one place where the host waits for the device.
        over, step = ended.tolist(), self.lanes.step.tolist()
        self._taken = {lane: step[lane] for lane in self.jobs}
        claimed = self.status.claimed.tolist()
        confirmed = self._confirmed([lane for lane in self.jobs if claimed[lane]])
        if self.compute.precision == "bf16":
            late = [lane for lane in self.jobs if over[lane] and lane not in confirmed]
            confirmed += self._granted_late(late)
        done = [lane for lane in self.jobs if lane in confirmed or over[lane]]
        self.status = self.status.looked_at(ended)
        return self._outcomes(done, confirmed) if done else []

    def _granted_late(self, late: list[int]) -> list[int]:
        """Of lanes that ended without success, those to whose last point fp32 grants it."""
        # Answers at random are denied by chance: there each further claim is judged.
        if len(self.search.judges) == 1:
            self.status = self.status.doubted()
        ends = self.attack.result(self.state)
        self.status = self.status.claiming(self._mask(late), ends, self.lanes.step)
        return self._confirmed(late)

    def _outcomes(self, done: list[int], confirmed: list[int]) -> list[Outcome]:
        place = torch.tensor(done, device=self.compute.device)
        succeeded = torch.tensor([lane in confirmed for lane in done], device=place.device)
        found, failed = self.status.found[place], self.attack.result(self.state)[place]
        ends = kept(succeeded, found, failed).cpu()
        asked = torch.where(succeeded, self.status.found_at[place], self.lanes.step[place]).tolist()
        return [
            Outcome(self.jobs.pop(lane), lane in confirmed, end.contiguous(), steps)
            for lane, end, steps in zip(done, ends, asked, strict=True)
        ]

    def _confirmed(self, lanes: list[int]) -> list[int]:
        """Those of the lanes whose points the judges find to have succeeded."""
        if not lanes:
            return []
        place = torch.tensor(lanes, device=self.compute.device)
        given = Lanes(*(value[place] for value in self.lanes))
        holds = self.search.confirmed(
            self.status.found[place], given.images, given.labels, given.targets
        )
        return [lane for lane, success in zip(lanes, holds.tolist(), strict=True) if success]

    def _mask(self, lanes: Iterable[int]) -> Tensor:
        """True for these lanes, bool [width]."""
        mask = torch.zeros(self.compute.width, dtype=torch.bool)
        mask[[*lanes]] = True
        return mask.to(self.compute.device)

    def _ended(self) -> Tensor:
        """Which lanes end before all steps, by their own account, bool [width]."""
        return self.state.get("ended", torch.zeros_like(self.status.active))

    def _ask(self, x: Tensor, wanted: bool) -> Answer:
        """The answer for x; its gradient is what costs most, and left out where nobody wants it."""
        asked = x.detach().requires_grad_(wanted)
        with torch.set_grad_enabled(wanted), self.compute.searching():
            logits, loss = self.attack.evaluate(self.search.victim, asked, self.lanes, self.state)
        gradient = input_gradient(loss, asked) if wanted else torch.empty(0)
        return Answer(logits.detach().float(), loss.detach().float(), gradient)


def period_of(attack: Attack) -> int:
    """Steps between two looks at which lanes are done, such that little is left over at the end."""
    # A look waits for the device, so not after every step; lanes that are done stand empty until
    # the look, so not after many. A cycle must not be cut, as all lanes keep step with it.
    periods = [period for period in range(min(attack.steps, 5), 11) if period % attack.cycle == 0]
    return min(periods, key=lambda period: (-attack.steps % period, -period))
