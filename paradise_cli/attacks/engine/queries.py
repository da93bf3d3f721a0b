"""Runs attacks that only query: where fewer runs than lanes are left, queries are asked ahead.

A query is proposed from the best point so far and changes nothing unless it is better. So the
queries after the next one are asked as if none of those before were better. Those behind the first
that is better are void and asked again. A run is what it would be query by query, and no lane
stands empty while there is a run for each thread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute, Judge, Search, run
from paradise_cli.attacks.engine.jobs import Goal, Job, Outcome, Queue, reached
from paradise_cli.attacks.engine.lane_batch import run_jobs
from paradise_cli.attacks.methods.random_search import Proposals
from paradise_cli.attacks.protocol.lanes import Attack, Lanes, Victim, kept

_NONE = 2**31  # beyond every number of queries
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
    work = _Shares(Search(attack, victim, judges, goal, compute), images, labels)
    return run(work, jobs, attack.steps, compute.blocks, pulse)


class _Runs(NamedTuple):
    """Runs under way, J of them: what they were given, and what they know, each [J, ...]."""

    images: Tensor
    labels: Tensor
    targets: Tensor
    keys: Tensor
    steps: Tensor
    best: Tensor
    highest: Tensor  # the loss at `best`, minus infinity before the first answer

    def rows(self, which: Tensor) -> "_Runs":
        return _Runs(*(value.index_select(0, which) for value in self))

    def lanes(self) -> Lanes:
        return Lanes(self.images, self.images, self.labels, self.targets, self.keys, self.steps)


class _Shares:
    """All runs under way, dealt out anew to the threads at every look, so that none stands idle."""

    def __init__(self, search: Search[Proposals], images: Tensor, labels: Tensor) -> None:
        self.search, self.images, self.labels = search, images, labels
        # What draws at random is judged in one order, not in that of the threads.
        self.side_by_side = len(search.judges) == 1
        self._shares = [self._begun([])]

    def fill(self, queue: Queue) -> list["_Share"]:
        compute = self.search.compute
        left = _joined(self._shares)
        left = left.only([row for row, job in enumerate(left.jobs) if queue.counts(job)])
        fresh = queue.take(compute.blocks * compute.width - len(left.jobs))
        under_way = _joined([left, self._begun(fresh)])
        count = len(under_way.jobs)
        firsts = range(min(compute.blocks, count))
        shares = [under_way.only(range(first, count, compute.blocks)) for first in firsts]
        self._shares = shares or [under_way]
        return shares

    def steps_left(self) -> int:
        return sum(share.steps_left() for share in self._shares)

    def _begun(self, jobs: list[Job]) -> "_Share":
        rows, device = [job.image for job in jobs], self.search.compute.device
        numbers = torch.tensor(
            [(job.target, job.key, 0) for job in jobs], dtype=torch.int64, device=device
        )
        target, key, step = numbers.view(-1, 3).unbind(1)
        x = self.images[rows].to(device)
        labels = self.labels[rows].to(device)
        lowest = torch.full((len(rows),), -torch.inf, device=device)
        return _Share(self.search, jobs, _Runs(x, labels, target, key, step, x, lowest))


def _joined(shares: Sequence["_Share"]) -> "_Share":
    runs = _Runs._make(map(torch.cat, zip(*(share.runs for share in shares), strict=True)))
    return _Share(shares[0].search, [job for share in shares for job in share.jobs], runs)


class _Share:
    """Runs that one thread takes further, in one full batch a round, independently of the
    others.
    """

    def __init__(self, search: Search[Proposals], jobs: list[Job], runs: _Runs) -> None:
        self.search, self.jobs, self.runs = search, jobs, runs
        self._outcomes: list[Outcome] = []

    def only(self, rows: Sequence[int]) -> "_Share":
        """The share of these runs."""
        which = torch.tensor(rows, dtype=torch.int64, device=self.search.compute.device)
        return _Share(self.search, [self.jobs[row] for row in rows], self.runs.rows(which))

    def advance(self) -> None:
        """Ask ROUNDS full batches."""
        for _ in range(ROUNDS):
            if self.jobs:
                self._round()

    def collect(self) -> list[Outcome]:
        """The outcomes of the runs that ended since the last look."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def steps_left(self) -> int:
        """Of the runs under way."""
        return self.search.attack.steps * len(self.jobs) - int(self.runs.steps.sum())

    def _round(self) -> None:
        """Ask one query in every lane, and let each run go as far as the answers hold."""
        runs, count, total = self.runs, len(self.jobs), self.search.attack.steps
        # Lanes are dealt out in turn: lane `count + 2` asks the next but one query of run 2.
        lane = torch.arange(self.search.compute.width, device=runs.steps.device)
        owner, ahead = lane % count, lane // count
        asked = runs.rows(owner)
        asked = asked._replace(steps=asked.steps + ahead)
        x, loss, hit = self._ask(asked)
        better, counts = loss > asked.highest, asked.steps < total
        # Points no better than one whose success was denied would be denied as well.
        if self.search.goal == "fool":
            hit &= better | ~(asked.highest > 0)
        # The first query that changes anything ends what holds; `_NONE` where no query does.
        ends = torch.where((better | hit) & counts, ahead, _NONE)
        end = torch.full_like(runs.steps, _NONE).scatter_reduce(0, owner, ends, "amin")
        any_end = end < _NONE
        place = torch.where(any_end, end, 0) * count + lane[:count]  # its lane, for each run
        better, hit = any_end & better[place], any_end & hit[place]
        unchanged = torch.zeros_like(runs.steps).scatter_add(0, owner, counts.long())
        x = x.index_select(0, place)
        self.runs = runs._replace(
            steps=runs.steps + torch.where(any_end, end + 1, unchanged),
            best=kept(better | (runs.steps == 0), x, runs.best),
            highest=torch.where(better, loss[place], runs.highest),
        )
        self._end(x, hit)

    def _ask(self, asked: _Runs) -> tuple[Tensor, Tensor, Tensor]:
        """Points of a full batch, their losses, and whether they may end a run."""
        search, lanes = self.search, asked.lanes()
        attack = search.attack
        with torch.no_grad(), search.compute.searching():
            unknown, best = asked.highest == -torch.inf, asked.best
            # First points are dear to make, and wanted only where a run begins.
            if bool(unknown.any()):
                best = kept(unknown, attack.first(lanes), best)
            x = kept(asked.steps == 0, best, attack.propose(lanes, best))
            logits = search.victim(x).float()
            loss = attack.loss(logits, lanes)
        hit = reached(search.goal, logits, asked.labels, asked.targets)
        return x, loss, hit & attack.threat.contains(x, asked.images)

    def _end(self, x: Tensor, hit: Tensor) -> None:
        """End the runs that are done; a success that one of the judges denies goes on."""
        runs, search = self.runs, self.search
        over = runs.steps >= search.attack.steps
        if search.compute.precision == "bf16":  # fp32 may grant what bf16 overlooked
            x, hit = kept(hit, x, runs.best), hit | over
        hit = self._confirmed(x, hit)
        done = (hit | over).tolist()
        if not any(done):
            return
        for row, (job, ended, success) in enumerate(
            zip(self.jobs, done, hit.tolist(), strict=True)
        ):
            if ended:
                point = (x if success else runs.best)[row].cpu().contiguous()
                self._outcomes.append(Outcome(job, success, point, int(runs.steps[row])))
        left = self.only([row for row, ended in enumerate(done) if not ended])
        self.jobs, self.runs = left.jobs, left.runs

    def _confirmed(self, x: Tensor, hit: Tensor) -> Tensor:
        """Which of the claimed successes hold, bool [J]."""
        rows = hit.nonzero().flatten()
        if not len(rows):
            return hit
        given = self.runs.rows(rows)
        holds = self.search.confirmed(x[rows], given.images, given.labels, given.targets)
        return torch.zeros_like(hit).index_put((rows,), holds)
