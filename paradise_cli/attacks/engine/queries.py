"""Runs attacks that only query: where fewer images than lanes are left, the next queries are asked
ahead.

A query is proposed from the best point so far and changes nothing unless it is better. So the
queries after the next are asked as if none were; those behind the first that is better are void and
asked again. A run is what it would be query by query, and no lane stands empty while there is a run
for each thread.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paradise_cli.attacks.engine.lane_batch import (
    Compute,
    Falls,
    Goal,
    Job,
    Outcome,
    reached,
    run_jobs,
)
from paradise_cli.attacks.methods.random_search import Proposals
from paradise_cli.attacks.protocol.lanes import Attack, Lanes, Victim, kept
from paradise_cli.core.threads import one_thread_each

Judge = Callable[[Tensor], Tensor]
_NONE = 2**31
ROUNDS = 8
"""Full batches that a thread asks about before runs are shared out anew."""


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
    judges = (judge,) if confirm is None else (judge, confirm)
    return _run_queries(
        _Setting(attack, victim, compute, goal, judges), images, labels, jobs, pulse
    )


class _Runs(NamedTuple):
    """Runs under way, J of them: what they were given, and what they know, each [J, ...]."""

    images: Tensor
    labels: Tensor
    targets: Tensor
    keys: Tensor
    steps: Tensor
    best: Tensor
    highest: Tensor

    def rows(self, which: Tensor) -> "_Runs":
        return _Runs(*(value.index_select(0, which) for value in self))

    def lanes(self) -> Lanes:
        return Lanes(self.images, self.images, self.labels, self.targets, self.keys, self.steps)


@dataclass(frozen=True)
class _Setting:
    """What all runs have in common."""

    attack: Proposals
    victim: Victim
    compute: Compute
    goal: Goal
    judges: tuple[Judge, ...]


def _run_queries(
    setting: _Setting,
    images: Tensor,
    labels: Tensor,
    jobs: Iterable[Job],
    pulse: Callable[[int], None],
) -> Iterator[Outcome]:
    """Share out the runs under way among the threads, take them further, and fill up with the next
    jobs.
    """
    waiting = deque(sorted(jobs, key=lambda job: (job.run, job.image)))
    steps, total = setting.attack.steps, setting.attack.steps * len(waiting)
    blocks, lanes = setting.compute.blocks, setting.compute.blocks * setting.compute.width
    falls, under_way = Falls(), _begun(setting, images, labels, [])
    if total:
        pulse(0)
    with one_thread_each(), ThreadPoolExecutor(blocks) as pool:
        while True:
            old = under_way.only(
                [row for row, job in enumerate(under_way.jobs) if falls.leave_open(job)]
            )
            fresh = falls.next_of(waiting, lanes - len(old.jobs))
            under_way = _joined([old, _begun(setting, images, labels, fresh)])
            count = len(under_way.jobs)
            if not count:
                if total:
                    pulse(total)
                return
            shares = [
                under_way.only(range(first, count, blocks)) for first in range(min(blocks, count))
            ]
            # What draws at random is judged in one order, not in that of the threads.
            side_by_side = pool.map if len(setting.judges) == 1 else map
            for outcomes in list(side_by_side(_Share.advance, shares)):
                for outcome in outcomes:
                    falls.note(outcome)
                    yield outcome
            under_way = _joined(shares)
            pulse(
                total
                - steps * (len(waiting) + len(under_way.jobs))
                + int(under_way.runs.steps.sum())
            )


def _begun(setting: _Setting, images: Tensor, labels: Tensor, jobs: list[Job]) -> "_Share":
    rows, device = [job.image for job in jobs], setting.compute.device
    numbers = torch.tensor(
        [(job.target, job.key, 0) for job in jobs], dtype=torch.int64, device=device
    )
    target, key, step = numbers.view(-1, 3).unbind(1)
    x, lowest = images[rows].to(device), torch.full((len(rows),), -torch.inf, device=device)
    return _Share(setting, jobs, _Runs(x, labels[rows].to(device), target, key, step, x, lowest))


def _joined(shares: Sequence["_Share"]) -> "_Share":
    runs = _Runs._make(map(torch.cat, zip(*(share.runs for share in shares), strict=True)))
    return _Share(shares[0].setting, [job for share in shares for job in share.jobs], runs)


class _Share:
    """Runs that one thread takes further, in one full batch a round, independently of the
    others.
    """

    def __init__(self, setting: _Setting, jobs: list[Job], runs: _Runs) -> None:
        self.setting, self.jobs, self.runs = setting, jobs, runs

    def only(self, rows: Sequence[int]) -> "_Share":
        """The share of these runs."""
        which = torch.tensor(rows, dtype=torch.int64, device=self.setting.compute.device)
        return _Share(self.setting, [self.jobs[row] for row in rows], self.runs.rows(which))

    def advance(self) -> list[Outcome]:
        """ROUNDS full batches; the outcomes of the runs that ended."""
        outcomes: list[Outcome] = []
        for _ in range(ROUNDS):
            if self.jobs:
                outcomes += self._round()
        return outcomes

    def _round(self) -> list[Outcome]:
        """Ask one query in every lane, and let each run go as far as the answers hold."""
        runs, count, total = self.runs, len(self.jobs), self.setting.attack.steps
        lane = torch.arange(self.setting.compute.width, device=runs.steps.device)
        owner, ahead = lane % count, lane // count
        asked = runs.rows(owner)
        asked = asked._replace(steps=asked.steps + ahead)
        x, loss, hit = self._ask(asked)
        better, counts = loss > asked.highest, asked.steps < total
        if self.setting.goal == "fool":  # below a success that was denied there is none
            hit &= better | ~(asked.highest > 0)
        ends = torch.where((better | hit) & counts, ahead, _NONE)
        end = torch.full_like(runs.steps, _NONE).scatter_reduce(0, owner, ends, "amin")
        any_end = end < _NONE
        place = torch.where(any_end, end, 0) * count + lane[:count]
        better, hit = any_end & better[place], any_end & hit[place]
        alone = torch.zeros_like(runs.steps).scatter_add(0, owner, counts.long())
        x = x.index_select(0, place)
        self.runs = runs._replace(
            steps=runs.steps + torch.where(any_end, end + 1, alone),
            best=kept(better | (runs.steps == 0), x, runs.best),
            highest=torch.where(better, loss[place], runs.highest),
        )
        return self._collect(x, hit)

    def _ask(self, asked: _Runs) -> tuple[Tensor, Tensor, Tensor]:
        """Points of a full batch, their losses, and whether they may end a run."""
        setting, lanes = self.setting, asked.lanes()
        attack = setting.attack
        with torch.no_grad(), setting.compute.searching():
            unknown, best = asked.highest == -torch.inf, asked.best
            if bool(unknown.any()):
                best = kept(unknown, attack.first(lanes), best)
            x = kept(asked.steps == 0, best, attack.propose(lanes, best))
            logits = setting.victim(x).float()
            loss = attack.loss(logits, lanes)
        hit = reached(setting.goal, logits, asked.labels, asked.targets)
        return x, loss, hit & attack.threat.contains(x, asked.images)

    def _collect(self, x: Tensor, hit: Tensor) -> list[Outcome]:
        """The runs that are done; a success that one of the judges denies goes on."""
        runs, setting = self.runs, self.setting
        over = runs.steps >= setting.attack.steps
        if setting.compute.precision == "bf16":  # fp32 may grant what bf16 overlooked
            x, hit = kept(hit, x, runs.best), hit | over
        for judge in setting.judges:
            hit = self._confirmed(x, hit, judge)
        done = (hit | over).tolist()
        if not any(done):
            return []
        outcomes = []
        for row, (job, ended, fooled) in enumerate(zip(self.jobs, done, hit.tolist(), strict=True)):
            if ended:
                point = (x if fooled else runs.best)[row].cpu().contiguous()
                outcomes.append(Outcome(job, fooled, point, int(runs.steps[row])))
        left = self.only([row for row, ended in enumerate(done) if not ended])
        self.jobs, self.runs = left.jobs, left.runs
        return outcomes

    def _confirmed(self, x: Tensor, hit: Tensor, judge: Judge) -> Tensor:
        places = hit.nonzero().flatten()
        if not len(places):
            return hit
        setting, given, points = self.setting, self.runs.rows(places), x[places]
        true = reached(setting.goal, judge(points), given.labels, given.targets)
        true &= setting.attack.threat.contains(points, given.images)
        return torch.zeros_like(hit).index_put((places,), true)
