"""Runs attacks that only query: where fewer images than lanes are left, the next queries are asked ahead.

A query is proposed from the best point so far and changes nothing unless it is better. So the queries after
the next are asked as if none were; those behind the first that is better are void and asked again. A run
is what it would be query by query, and no lane stands empty.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from paradise_cli.attacks.engine import Compute, Falls, Goal, Job, Outcome, reached, run_jobs
from paradise_cli.attacks.lanes import Attack, Lanes, Victim, kept
from paradise_cli.attacks.random_search import Proposals
from paradise_cli.threads import one_thread_each

Judge = Callable[[Tensor], Tensor]
_NONE = 2**31


def run_attack(
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
    """Outcomes of jobs as of `run_jobs`, whichever way the attack is best run."""
    if not isinstance(attack, Proposals):
        return run_jobs(
            attack, victim, judge, images, labels, jobs, compute,
            goal=goal, confirm=confirm, begin=begin, pulse=pulse,
        )  # fmt: skip
    judges = [judge] if confirm is None else [judge, confirm]
    return _Queries(attack, victim, images, labels, compute, goal, judges).run(jobs, pulse)


class _Runs(NamedTuple):
    """The runs under way, J of them: what they were given, and what they know, each [J, ...]."""

    images: Tensor
    labels: Tensor
    targets: Tensor
    keys: Tensor
    steps: Tensor
    best: Tensor
    highest: Tensor

    def rows(self, which: Tensor) -> "_Runs":
        return _Runs(*(value[which] for value in self))

    def lanes(self) -> Lanes:
        return Lanes(self.images, self.images, self.labels, self.targets, self.keys, self.steps)


class _Queries:
    def __init__(
        self,
        attack: Proposals,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        compute: Compute,
        goal: Goal,
        judges: Sequence[Judge],
    ) -> None:
        self.attack, self.victim, self.images, self.labels = attack, victim, images, labels
        self.compute, self.goal, self.judges = compute, goal, judges
        self.jobs: list[Job] = []
        self.runs: _Runs | None = None

    def run(self, jobs: Iterable[Job], pulse: Callable[[int], None]) -> Iterator[Outcome]:
        waiting = deque(sorted(jobs, key=lambda job: (job.run, job.image)))
        steps, total = self.attack.steps, self.attack.steps * len(waiting)
        falls = Falls()
        if total:
            pulse(0)
        with one_thread_each(), ThreadPoolExecutor(self.compute.blocks) as pool:
            while True:
                self._fill(waiting, falls)
                if self.runs is None:
                    if total:
                        pulse(total)
                    return
                for outcome in self._advance(pool):
                    falls.note(outcome)
                    yield outcome
                left = 0 if self.runs is None else int((steps - self.runs.steps).sum())
                pulse(total - steps * len(waiting) - left)

    def _fill(self, waiting: deque[Job], falls: Falls) -> None:
        """Drop what no longer counts, and begin the next runs as far as there are lanes."""
        self._keep([falls.leave_open(job) for job in self.jobs])
        fresh: list[Job] = []
        while waiting and len(self.jobs) + len(fresh) < self.compute.width * self.compute.blocks:
            job = waiting.popleft()
            if falls.leave_open(job):
                fresh.append(job)
        if not fresh:
            return
        rows, device = [job.image for job in fresh], self.compute.device
        numbers = torch.tensor([[job.target, job.key, 0] for job in fresh], device=device)
        images, labels = self.images[rows].to(device), self.labels[rows].to(device)
        lowest = torch.full((len(rows),), -torch.inf, device=device)
        target, key, step = numbers.unbind(1)
        begun = _Runs(images, labels, target, key, step, images, lowest)
        old = self.runs
        self.runs = begun if old is None else _Runs._make(map(torch.cat, zip(old, begun, strict=True)))
        self.jobs += fresh

    def _keep(self, which: Sequence[bool]) -> None:
        self.jobs = [job for job, stays in zip(self.jobs, which, strict=True) if stays]
        if self.runs is not None and not all(which):
            self.runs = self.runs.rows(torch.tensor(which, device=self.compute.device)) if self.jobs else None

    def _advance(self, pool: ThreadPoolExecutor) -> list[Outcome]:
        """Ask one query in every lane, and let each run go as far as the answers hold."""
        runs, count = self.runs, len(self.jobs)
        assert runs is not None
        lane = torch.arange(self.compute.width * self.compute.blocks, device=self.compute.device)
        owner, ahead = lane % count, lane // count
        step = runs.steps[owner] + ahead
        asked = runs.rows(owner)._replace(steps=step)
        split = [torch.split(value, self.compute.width) for value in asked]
        parts = [_Runs._make(part) for part in zip(*split, strict=True)]
        x, loss, hit = (torch.cat(part) for part in zip(*pool.map(self._ask, parts), strict=True))
        better, counts = loss > asked.highest, step < self.attack.steps
        ends = torch.where((better | hit) & counts, ahead, _NONE)
        end = torch.full_like(runs.steps, _NONE).scatter_reduce(0, owner, ends, "amin")
        any_end = end < _NONE
        place = torch.where(any_end, end, 0) * count + lane[:count]
        better, hit = any_end & better[place], any_end & hit[place]
        alone = torch.zeros_like(runs.steps).scatter_add(0, owner, counts.long())
        self.runs = runs._replace(
            steps=runs.steps + torch.where(any_end, end + 1, alone),
            best=kept(better | (runs.steps == 0), x[place], runs.best),
            highest=torch.where(better, loss[place], runs.highest),
        )
        return self._collect(x[place], hit)

    def _ask(self, asked: _Runs) -> tuple[Tensor, Tensor, Tensor]:
        """Points of a full batch, their losses, and whether they may end a run."""
        lanes = asked.lanes()
        with torch.no_grad(), self.compute.searching():
            unknown, best = asked.highest == -torch.inf, asked.best
            if bool(unknown.any()):
                best = kept(unknown, self.attack.first(lanes), best)
            x = kept(asked.steps == 0, best, self.attack.propose(lanes, best))
            logits = self.victim(x).float()
            loss = self.attack.loss(logits, lanes)
        hit = reached(self.goal, logits, asked.labels, asked.targets)
        return x, loss, hit & self.attack.threat.contains(x, asked.images)

    def _collect(self, x: Tensor, hit: Tensor) -> list[Outcome]:
        """The runs that are done; a success that one of the judges denies goes on."""
        runs = self.runs
        assert runs is not None
        over = runs.steps >= self.attack.steps
        if self.compute.precision == "bf16":  # fp32 may grant what bf16 overlooked
            x, hit = kept(hit, x, runs.best), hit | over
        for judge in self.judges:
            hit = self._confirmed(runs, x, hit, judge)
        done = (hit | over).tolist()
        outcomes = []
        for row, (job, ended, fooled) in enumerate(zip(self.jobs, done, hit.tolist(), strict=True)):
            if ended:
                point = (x if fooled else runs.best)[row].cpu().contiguous()
                outcomes.append(Outcome(job, fooled, point, int(runs.steps[row])))
        self._keep([not ended for ended in done])
        return outcomes

    def _confirmed(self, runs: _Runs, x: Tensor, hit: Tensor, judge: Judge) -> Tensor:
        places = hit.nonzero().flatten()
        if not len(places):
            return hit
        given, points = runs.rows(places), x[places]
        true = reached(self.goal, judge(points), given.labels, given.targets)
        true &= self.attack.threat.contains(points, given.images)
        return torch.zeros_like(hit).index_put((places,), true)
