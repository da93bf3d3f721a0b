"""A classifier, images and a ledger: whoever attacks here attacks each image once and remembers
it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from paradise_cli.attacks.engine.classifier import (
    Behaviour,
    Classifier,
    Function,
    examine,
    weights_digest,
)
from paradise_cli.attacks.engine.compiled import compiled
from paradise_cli.attacks.engine.eot import Averaged
from paradise_cli.attacks.engine.jobs import digests, jobs_of
from paradise_cli.attacks.engine.lane_batch import Compute, Goal, Job, Outcome, reached
from paradise_cli.attacks.engine.queries import run_attack
from paradise_cli.attacks.protocol.lanes import ATTACKS, Attack, Victim
from paradise_cli.attacks.session.ledger import Entry, Ledger
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.perturbations.threat import threat_model

EOT_DRAWS = 20
"""Answers of a classifier that draws at random behind each gradient."""

_COUNTS = 200  # of what stands, during an attack
Pulse = Callable[[str, int, int, float], None]
"""Told what is being done, how much of it is done, of how much, and the share of images still
standing.
"""


@dataclass(frozen=True)
class Shard:
    """This process's part of the images, the others' being attacked elsewhere into the same
    folder.
    """

    rank: int = 0
    world: int = 1
    any: Callable[[bool], bool] = lambda holds: holds
    """Whether it holds for some process, known once every one has come as far."""


@dataclass
class Arena:
    """What is attacked: images float32 [N, C, H, W] in [0, 1] with labels int64 [N], on the CPU.

    `seed` and an image's pixels decide all noise. Raises as `examine` for a classifier or labels
    that cannot be attacked.
    """

    function: Function
    images: Tensor
    labels: Tensor
    norm: Literal["linf", "l2"] | str
    compute: Compute
    seed: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    pulse: Pulse = lambda what, done, total, standing: None
    shard: Shard = Shard()
    deadline: float | None = None
    """On the clock of `time.monotonic`: attacks end there, and what they did not finish is
    `unfinished`.
    """
    unfinished: list[str] = field(default_factory=list)
    of: int = 0
    """Images that a share is told of: all, or those that a suite is at."""
    made: set[str] = field(default_factory=set)
    """Labels of the attacks made here, of what else the ledger may hold."""
    purpose: str = ""
    """What attacks are for, told before their names; it changes nothing else."""

    def __post_init__(self) -> None:
        self.behaviour: Behaviour = examine(
            self.function, self.images, self.labels, self.compute.device
        )
        if self.behaviour.random:
            self.compute = replace(
                self.compute, width=self.compute.random_width or self.compute.width
            )
        self.classifier = self.hosted(self.function)
        if self.compute.compiled:
            if self.behaviour.random:
                raise UsageError(
                    "a classifier that answers at random is not compiled (leave out --compile)"
                )
            self.classifier.quick = compiled(self.classifier, self.images, self.compute)
        self.ids, self.of = digests(self.images), len(self.images)
        self._sources: dict[str, Source] = {}
        self.logits = self.classifier.judge(self.images).cpu()  # [N, classes]
        self.right = (self.logits.argmax(1) == self.labels) & self.logits.isfinite().all(1)  # [N]

    def hosted(self, function: Function, random: bool | None = None) -> Classifier:
        """Another classifier to be attacked here; it answers at random if the arena's own does."""
        random = self.behaviour.random if random is None else random
        return Classifier(
            function, device=self.compute.device, width=self.compute.width, random=random
        )

    def correct(self, limit: int | None = None) -> list[int]:
        """Rows that are classified rightly, the first `limit` of them."""
        rows: list[int] = self.right.nonzero().flatten().tolist()
        return rows[:limit]

    def attack(
        self,
        name: str,
        eps: float,
        rows: Iterable[int],
        *,
        hyper: Mapping[str, Any] | None = None,
        goal: Goal = "fool",
        victim: Victim | None = None,
        begin: Mapping[int, Tensor] | None = None,
        tag: str = "",
        keep_ends: bool = False,
    ) -> dict[int, Entry]:
        """Run an attack of the registry on these rows, and give the entries of the images that
        fell.

        What the ledger knows is not run again. With another `victim` the attack looks for its way
        there, and success is still decided by the arena's own classifier; such an attack, or one
        that begins at given points, needs a `tag` that tells it apart. With `keep_ends` the ledger
        has the points at which runs failed, for `ends`; runs on record without them are made again.
        """
        attack, label = self._made(name, eps, hyper or {}, goal, tag, self.behaviour.random)
        rows, victim = list(rows), victim or self.classifier
        jobs = self._jobs(attack, name + tag, label, rows, self.logits, keep_ends)
        outcomes = run_attack(
            attack, victim, self.classifier.judge, self.images, self.labels, jobs, self.compute,
            goal=goal, confirm=self.classifier.confirm if self.behaviour.random else None, begin=begin,
            pulse=self._pulse(name + tag, label, rows, attack.steps * len(jobs)),
        )  # fmt: skip
        with self._until_deadline(name + tag):
            for outcome in outcomes:
                self._note(label, attack, outcome, outcome.succeeded, keep_ends)
        return self._fallen(label, rows)

    def ends(
        self, name: str, eps: float, rows: Iterable[int], *, hyper: Mapping[str, Any]
    ) -> dict[int, Tensor]:
        """Where the first run of an attack, made with `keep_ends`, ended on those rows that
        stood.
        """
        label = self._made(name, eps, hyper, "fool", "", self.behaviour.random)[1]
        entries = {row: self.ledger.runs(label, row).get(0) for row in rows}
        return {
            row: entry.point
            for row, entry in entries.items()
            if entry is not None and not entry.fooled and entry.point is not None
        }

    def transfer(
        self,
        name: str,
        eps: float,
        rows: Iterable[int],
        source: Function,
        *,
        source_name: str,
        hyper: Mapping[str, Any] | None = None,
    ) -> dict[int, Entry]:
        """Attack another classifier, and give the entries of the images whose last points fool this
        one.
        """
        rows, tag = list(rows), f" from {source_name}"
        host, logits, told = self.met(source_name, source)
        attack, label = self._made(name, eps, hyper or {}, "fool", f"{tag} {told}", host.random)
        jobs = self._jobs(attack, name + tag, label, rows, logits)
        outcomes = run_attack(
            attack, host, host.judge, self.images, self.labels, jobs, self.compute,
            goal="none", pulse=self._pulse(name + tag, label, rows, attack.steps * len(jobs)),
        )  # fmt: skip
        with self._until_deadline(name + tag):
            while some := list(islice(outcomes, self.compute.width)):
                points = torch.stack([outcome.point for outcome in some])
                places = [outcome.job.image for outcome in some]
                fooled = attack.threat.contains(points, self.images[places])
                logits = self.classifier.confirm(points).cpu()
                fooled &= reached("fool", logits, self.labels[places], self.labels[places])
                for outcome, holds in zip(some, fooled.tolist(), strict=True):
                    self._note(label, attack, outcome, holds)
        return self._fallen(label, rows)

    def met(self, name: str, source: Function) -> "Source":
        """A classifier to make images on, looked at once; raises as `examine`."""
        if name not in self._sources:
            random = examine(source, self.images, self.labels, self.compute.device).random
            host = self.hosted(source, random)
            logits = host.judge(self.images).cpu()
            # Another may come to have the same name; what draws at random has no answers of its
            # own.
            answers = hashlib.sha256(logits.argmax(1).numpy().tobytes()).hexdigest()
            told = (weights_digest(source) if random else answers)[:12]
            self._sources[name] = Source(host, logits, told)
        return self._sources[name]

    def _jobs(
        self,
        attack: Attack,
        name: str,
        label: str,
        rows: list[int],
        logits: Tensor,
        keep_ends: bool = False,
    ) -> list[Job]:
        """The runs of this process that have not ended yet and may still count."""
        mine = [row for row in rows if row % self.shard.world == self.shard.rank]
        jobs = jobs_of(name, attack, logits, self.labels, self.ids, mine, self.seed)
        return [job for job in jobs if self._open(label, job, keep_ends)]

    def _note(
        self, label: str, attack: Attack, outcome: Outcome, fooled: bool, keep_end: bool = False
    ) -> None:
        job, point = outcome.job, outcome.point
        distance = float(attack.threat.distance(point[None], self.images[job.image][None]))
        kept = point if fooled or keep_end else None
        self.ledger.add(
            Entry(label, job.image, job.run, job.target, outcome.step, distance, fooled, kept)
        )

    def _fallen(self, label: str, rows: list[int]) -> dict[int, Entry]:
        self.ledger.settle()
        return {row: entry for row in rows if (entry := self.ledger.fell(label, row)) is not None}

    @contextmanager
    def _until_deadline(self, what: str) -> Iterator[None]:
        late = False
        try:
            yield
        except _TimeIsUp:
            late = True
        except torch.OutOfMemoryError as error:
            raise ParadiseError(
                f"{what}: {self.compute.width} images at once are too many for the memory of"
                f" {self.compute.device}; choose fewer (--batch-size), and another --out"
            ) from error
        # One process that stops stops all: they must agree on what comes next.
        if self.shard.any(late) and self.purpose + what not in self.unfinished:
            self.unfinished.append(self.purpose + what)

    def _pulse(self, what: str, label: str, rows: list[int], total: int) -> Callable[[int], None]:
        counted, fell = -total, 0

        def pulse(done: int) -> None:
            nonlocal counted, fell
            if done - counted >= total / _COUNTS or done >= total:
                fell = sum(self.ledger.fell(label, row) is not None for row in rows)
                counted = done
            self.pulse(self.purpose + what, done, total, (len(rows) - fell) / self.of)
            if done < total and self.deadline is not None and time.monotonic() >= self.deadline:
                raise _TimeIsUp

        return pulse

    def _open(self, label: str, job: Job, keep_ends: bool) -> bool:
        """Whether a run may still count and has not ended yet, or not where it can be seen."""
        fell = self.ledger.fell(label, job.image)
        if fell is not None and job.run >= fell.run:
            return False
        ended = self.ledger.runs(label, job.image).get(job.run)
        return ended is None or ended.target != job.target or (keep_ends and ended.point is None)

    def _made(
        self, name: str, eps: float, hyper: Mapping[str, Any], goal: Goal, tag: str, random: bool
    ) -> tuple[Attack, str]:
        attack = ATTACKS[name](threat_model(self.norm, eps), **hyper)
        given = {
            "eps": eps,
            **{key: value for key, value in hyper.items() if not isinstance(value, Tensor)},
        }
        if random and attack.gradient:
            attack, given["eot"] = Averaged(attack, EOT_DRAWS), EOT_DRAWS
        if goal != "fool":
            given["goal"] = goal
        label = f"{name}{tag} {json.dumps(given, sort_keys=True)}"
        self.made.add(label)
        return attack, label


class Source(NamedTuple):
    """A classifier to make images on, its logits [N, classes], and what tells it from others."""

    host: Classifier
    logits: Tensor
    told: str


class _TimeIsUp(Exception):
    """The deadline has passed."""
