"""Attacks on one subject: each image is attacked once, and what was found is remembered."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from paradise_cli.attacks.engine.eot import Averaged
from paradise_cli.attacks.engine.jobs import Goal, Job, Outcome, jobs_of, reached
from paradise_cli.attacks.engine.queries import run_attack
from paradise_cli.attacks.protocol.lanes import ATTACKS, Attack, Victim
from paradise_cli.attacks.session.ledger import Entry, Ledger
from paradise_cli.attacks.session.nearest import Nearness
from paradise_cli.attacks.session.phase import (
    Decide,
    Phase,
    Pulse,
    Shard,
    TimeIsUp,
    TurnedRandom,
    asked_twice,
    silent,
)
from paradise_cli.attacks.session.subject import Subject, TransferSource, disagree
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import Precision
from paradise_cli.perturbations.threat import threat_model

EOT_DRAWS = 20
"""Answers of a classifier that draws at random behind each gradient."""

_COUNTS = 200  # how often in an attack the images still standing are counted, for its progress


class Session:
    """Attacks on one subject, whose runs are kept in a ledger and not made again.

    Nobody writes into a session: purpose, deadline and progress of attacks are those of the
    `phase` that is entered. One that is `watched` raises TurnedRandom for a classifier that has
    turned out to answer at random.
    """

    def __init__(
        self,
        subject: Subject,
        ledger: Ledger | None = None,
        *,
        pulse: Pulse | None = None,
        deadline: float | None = None,
        shard: Shard | None = None,
        watched: bool = True,
    ) -> None:
        self.subject = subject
        self.ledger = Ledger() if ledger is None else ledger
        self.shard = shard or Shard()
        self._watched = watched
        # A folder may hold other attacks too: what counts here is what was made here.
        self._labels: set[str] = set()
        self._nearness = Nearness(subject)
        self._phase = Phase("", len(subject.images), deadline, pulse or silent)

    @property
    def pulse(self) -> Pulse:
        """Where progress goes."""
        return self._phase.pulse

    @property
    def deadline(self) -> float | None:
        """When attacks must end, on the clock of `time.monotonic`."""
        return self._phase.deadline

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Attacks that time cut short in phases that are over, or in the one under way."""
        return tuple(self._phase.unfinished)

    @contextmanager
    def phase(
        self,
        title: str | None = None,
        *,
        denominator: int | None = None,
        deadline: float | None = None,
        pulse: Pulse | None = None,
    ) -> Iterator[Phase]:
        """Enter a phase; what is not given is that of the phase around it."""
        outer = self._phase
        self._phase = Phase(
            outer.title if title is None else title,
            outer.denominator if denominator is None else denominator,
            outer.deadline if deadline is None else deadline,
            pulse or outer.pulse,
        )
        try:
            yield self._phase
        finally:
            inner = self._phase.unfinished
            outer.unfinished += [name for name in inner if name not in outer.unfinished]
            self._phase = outer

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
        precision: Precision | None = None,
        nearest: bool = False,
    ) -> dict[int, Entry]:
        """Run an attack of the registry on these rows; gives the entries of the images it broke.

        What the ledger holds is not run again. With another `victim` the attack looks for its way
        there, and success is still decided by the subject's own classifier; such an attack, or one
        that begins at given points, needs a `tag` that tells it apart. With `keep_ends` the ledger
        has the points at which runs failed, for `ends`; runs on record without them are made again.
        The search is in the subject's precision, or in the one asked for. Where several classes are
        aimed at in turn they are the likeliest, or with `nearest` those. Raises TurnedRandom.
        """
        subject, rows, hyper = self.subject, list(rows), hyper or {}
        own = self.shard.own(rows)
        tag += " nearest" if nearest else ""
        attack, label = self._attack(name, eps, hyper, goal, tag, subject.behaviour.random)
        compute, victim = subject.compute, victim or subject.classifier
        if precision not in (None, compute.precision):
            compute = replace(compute, precision=precision)
            label = self._labelled(f"{label} in {precision}")
            # The classifier itself, and no copy that was compiled for the other precision.
            victim = subject.classifier_of(subject.function)
        decide, confirm = self._decisions()
        with self._until_deadline(name + tag):
            ranking = subject.logits
            if nearest:
                pulse = self._pulse(f"{name + tag}: classes", label, rows, len(own))
                ranking = self._nearness.of(own, attack.threat, pulse)
            jobs = self._open_jobs(attack, name + tag, label, own, ranking, keep_ends)
            outcomes = run_attack(
                attack, victim, decide, subject.images, subject.labels, jobs, compute,
                goal=goal, confirm=confirm, begin=begin,
                pulse=self._pulse(name + tag, label, rows, attack.steps * len(jobs)),
            )  # fmt: skip
            for outcome in outcomes:
                self._record(label, attack, outcome, outcome.succeeded, keep_ends)
        return self._successes(label, rows)

    def ends(
        self, name: str, eps: float, rows: Iterable[int], *, hyper: Mapping[str, Any]
    ) -> dict[int, Tensor]:
        """The points at which the first run of an attack failed, of those rows where it did.

        The attack was made with `keep_ends`.
        """
        label = self._attack(name, eps, hyper, "fool", "", self.subject.behaviour.random)[1]
        found = {}
        for row in rows:
            # Later runs are restarts: one end an image is enough to go on from.
            entry = self.ledger.runs(label, row).get(0)
            if entry is not None and not entry.fooled and entry.point is not None:
                found[row] = entry.point
        return found

    def transfer(
        self,
        name: str,
        eps: float,
        rows: Iterable[int],
        source: TransferSource,
        *,
        hyper: Mapping[str, Any] | None = None,
    ) -> dict[int, Entry]:
        """Attack the source; gives the entries of the images whose last points fool the subject."""
        rows, tag = list(rows), f" from {source.name}"
        # Names are the user's: another source of the same name must not find this one's runs.
        attack, label = self._attack(
            name, eps, hyper or {}, "fool", f"{tag} {source.fingerprint}", source.classifier.random
        )
        own = self.shard.own(rows)
        jobs = self._open_jobs(attack, name + tag, label, own, source.logits)
        subject, decide = self.subject, source.classifier.judge
        outcomes = run_attack(
            attack, source.classifier, decide, subject.images, subject.labels, jobs,
            subject.compute, goal="none",
            pulse=self._pulse(name + tag, label, rows, attack.steps * len(jobs)),
        )  # fmt: skip
        with self._until_deadline(name + tag):
            while batch := list(islice(outcomes, self.subject.compute.width)):
                fooled = self._fooled(attack, batch)
                for outcome, holds in zip(batch, fooled, strict=True):
                    self._record(label, attack, outcome, holds)
        return self._successes(label, rows)

    def nearest(self, row: int) -> Entry | None:
        """Of the attacks made in this session, the entry that broke an image at the smallest
        distance.
        """
        return self.ledger.nearest(row, self._labels)

    def look_again(self, points: Sequence[Tensor]) -> None:
        """Ask once more about clean images, and twice about these points, each [C, H, W].

        Raises TurnedRandom where an answer is another one than before.
        """
        subject = self.subject
        if subject.behaviour.random:
            return
        width, judge = subject.compute.width, subject.classifier.judge
        # The batch that was judged first, so that batch-dependent answers are the same again.
        clean = judge(subject.images[:width]).cpu()
        random = disagree(clean, subject.logits[:width])
        if points:
            some = torch.stack([*points[:width]])
            random = random or disagree(judge(some), judge(some))
        if self.shard.any(random):
            raise TurnedRandom

    def _decisions(self) -> tuple[Decide, Decide | None]:
        """What decides whether a point fools the classifier, and what confirms it, if needed."""
        classifier = self.subject.classifier
        if self.subject.behaviour.random:
            return classifier.judge, classifier.confirm
        return asked_twice(classifier.judge) if self._watched else classifier.judge, None

    def _fooled(self, attack: Attack, outcomes: Sequence[Outcome]) -> list[bool]:
        """Whether the points that these runs ended at fool the subject from within the ball."""
        subject = self.subject
        points = torch.stack([outcome.point for outcome in outcomes])
        rows = [outcome.job.image for outcome in outcomes]
        labels = subject.labels[rows]
        wrong = reached("fool", subject.classifier.confirm(points).cpu(), labels, labels)
        inside = attack.threat.contains(points, subject.images[rows])
        return [bool(each) for each in wrong & inside]

    def _open_jobs(
        self,
        attack: Attack,
        name: str,
        label: str,
        rows: list[int],
        logits: Tensor,
        keep_ends: bool = False,
    ) -> list[Job]:
        """The runs at these rows that have not ended yet and may still count."""
        subject = self.subject
        jobs = jobs_of(name, attack, logits, subject.labels, subject.ids, rows, subject.seed)
        return [job for job in jobs if self._is_open(label, job, keep_ends)]

    def _is_open(self, label: str, job: Job, keep_ends: bool) -> bool:
        """Whether a run may still count and has not ended yet, or not where it can be seen."""
        # Runs count in their order: after a success no later one can change anything.
        success = self.ledger.success(label, job.image)
        if success is not None and job.run >= success.run:
            return False
        ended = self.ledger.runs(label, job.image).get(job.run)
        return ended is None or ended.target != job.target or (keep_ends and ended.point is None)

    def _record(
        self, label: str, attack: Attack, outcome: Outcome, fooled: bool, keep_end: bool = False
    ) -> None:
        job, point = outcome.job, outcome.point
        # Measured here, and not believed of an attack: `nearest` compares distances.
        image = self.subject.images[job.image]
        distance = float(attack.threat.distance(point[None], image[None]))
        kept = point if fooled or keep_end else None
        self.ledger.add(
            Entry(label, job.image, job.run, job.target, outcome.step, distance, fooled, kept)
        )

    def _successes(self, label: str, rows: list[int]) -> dict[int, Entry]:
        # Also what other processes found: from here on all must know the same.
        self.ledger.settle()
        found = {row: self.ledger.success(label, row) for row in rows}
        return {row: entry for row, entry in found.items() if entry is not None}

    @contextmanager
    def _until_deadline(self, name: str) -> Iterator[None]:
        late = random = False
        try:
            yield
        except TimeIsUp:
            late = True
        except TurnedRandom:
            random = True
        except torch.OutOfMemoryError as error:
            compute = self.subject.compute
            raise ParadiseError(
                f"{name}: {compute.width} images at once are too many for the memory of"
                f" {compute.device}; choose fewer (--batch-size), and another --out"
            ) from error
        # One process that stops stops all: they must agree on what comes next.
        if self.shard.any(random):
            raise TurnedRandom
        if self.shard.any(late) and self._phase.title + name not in self._phase.unfinished:
            self._phase.unfinished.append(self._phase.title + name)

    def _pulse(self, name: str, label: str, rows: list[int], total: int) -> Callable[[int], None]:
        """What the engine calls as an attack goes on: it tells of progress and looks at the
        clock.
        """
        phase, counted, broken = self._phase, -total, 0

        def pulse(done: int) -> None:
            nonlocal counted, broken
            # To count at every call would cost more than the attack, where it is a quick one.
            if done - counted >= total / _COUNTS or done >= total:
                broken = sum(self.ledger.success(label, row) is not None for row in rows)
                counted = done
            standing = (len(rows) - broken) / phase.denominator
            phase.pulse(phase.title + name, done, total, standing)
            late = phase.deadline is not None and time.monotonic() >= phase.deadline
            if late and done < total:
                raise TimeIsUp

        return pulse

    def _attack(
        self, name: str, eps: float, hyper: Mapping[str, Any], goal: Goal, tag: str, random: bool
    ) -> tuple[Attack, str]:
        """An attack of the registry, and the label under which the ledger keeps its runs."""
        attack = ATTACKS[name](threat_model(self.subject.norm, eps), **hyper)
        # The label says all that decides the outcome but what the header says; tensors are named by
        # the caller's tag.
        given: dict[str, Any] = {"eps": eps}
        given |= {key: value for key, value in hyper.items() if not isinstance(value, Tensor)}
        if random and attack.gradient:
            # One answer's gradient points at that answer's noise (Athalye et al. 2018).
            attack = Averaged(attack, EOT_DRAWS)
            given["eot"] = EOT_DRAWS
        if goal != "fool":
            given["goal"] = goal
        if self.subject.turned_random:
            # What was recorded before that was noticed may have succeeded by chance.
            given["answers"] = "random"
        return attack, self._labelled(f"{name}{tag} {json.dumps(given, sort_keys=True)}")

    def _labelled(self, label: str) -> str:
        """The label, remembered as one of this session."""
        self._labels.add(label)
        return label
