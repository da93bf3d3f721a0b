"""The whole of it in one call: attack a classifier, audit the attack, report."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.random import fork_rng

from paradise_cli.attacks.audit import calibration
from paradise_cli.attacks.audit.audit import Audit, audit
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.attacks.engine.passes import Count
from paradise_cli.attacks.estimate import estimated
from paradise_cli.attacks.report import AttackReport, Spent
from paradise_cli.attacks.search import Found, search, with_all_else
from paradise_cli.attacks.session.first_look import first_look
from paradise_cli.attacks.session.inputs import (
    checked_examples,
    choose_compute,
    device_of,
    images_digest,
)
from paradise_cli.attacks.session.ledger import ATTACKS, FolderLedger, Ledger, discard
from paradise_cli.attacks.session.phase import Pulse, Shard, TurnedRandom
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.subject import Subject, TransferSource
from paradise_cli.attacks.session.suite import Suite, random_order
from paradise_cli.attacks.summary import summarised
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.given import path_given
from paradise_cli.core.machine import full_fp32
from paradise_cli.core.processes import (
    any_process,
    join,
    over_all_processes,
    rank,
    require_same,
    together,
    world_size,
)

# Without an audit no number can be believed: the suite must leave it time.
FOR_SUITE = 0.75
"""Share of a time budget that the suite may take before the audit."""
FOR_FIRST = 0.5
"""Share of a time budget for a suite that another one is behind, and for its audit."""


def attack(
    classifier: Function,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    eps: float,
    norm: str = AttackSettings.norm,
    suite: str = AttackSettings.suite,
    seed: int = AttackSettings.seed,
    curve: Sequence[float] = AttackSettings.curve,
    sources: Mapping[str, Function] | None = None,
    base: Function | None = None,
    ci: float | None = AttackSettings.ci,
    budget: float | None = AttackSettings.budget,
    audited: int = AttackSettings.audited,
    out: str | Path | None = None,
    fresh: bool = False,
    device: torch.device | str | None = None,
    precision: str = AttackSettings.precision,
    compiled: bool = AttackSettings.compiled,
    batch_size: int | None = AttackSettings.batch_size,
    estimate: bool = AttackSettings.estimate,
    pulse: Pulse | None = None,
    tell: Callable[[str], None] | None = None,
) -> AttackReport:
    """Robust accuracy of any function from pixels to logits, with its interval and the verdict of
    the audit.

    Images are [N, C, H, W], float in [0, 1] or uint8, labels int [N]; for eps, norm, suite, seed,
    curve, ci, budget, audited, precision, compiled, batch_size and estimate see `AttackSettings`.
    The rest is as in `attack_with`. Raises UsageError, ParadiseError.
    """
    settings = AttackSettings(
        eps=eps, norm=norm, suite=suite, seed=seed, curve=curve, ci=ci, budget=budget,
        audited=audited, precision=precision, compiled=compiled, batch_size=batch_size,
        estimate=estimate,
    )  # fmt: skip
    beside = Beside(sources or {}, base, pulse, tell)
    folder = None if out is None else path_given(out, "out")
    return attack_with(
        settings, classifier, images, labels, beside=beside, out=folder, fresh=fresh, device=device
    )


@dataclass(frozen=True)
class Beside:
    """What an attack needs beside its settings: other classifiers, and whom to keep informed.

    Suite `transfer` makes its images on the `sources`, by name; `base` is the model without its
    defence, which the audit expects to break. `pulse` is called with progress, and `tell` with what
    should be known before the attack has ended.
    """

    sources: Mapping[str, Function] = field(default_factory=dict)
    base: Function | None = None
    pulse: Pulse | None = None
    tell: Callable[[str], None] | None = None


@together()
def attack_with(
    settings: AttackSettings,
    classifier: Function,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    beside: Beside | None = None,
    out: Path | None = None,
    fresh: bool = False,
    device: torch.device | str | None = None,
) -> AttackReport:
    """The attack that the settings describe, on images [N, C, H, W] with labels [N].

    With `out` each run is recorded there, and the same call goes on from there; `fresh` forgets
    what was recorded before. Raises UsageError, ParadiseError.
    """
    # A budget is of the whole call, the first look at the classifier included.
    started = time.monotonic()
    beside = beside or Beside()
    suite = settings.suite_with(beside.sources)
    pixels, classes = checked_examples(images, labels)
    compute = choose_compute(
        device_of(classifier, device),
        pixels.shape[2:],
        settings.precision,
        settings.batch_size,
        settings.compiled,
    )
    accelerators = [compute.device] if compute.device.type == "cuda" else []
    # A classifier that draws does so from the caller's own stream of random numbers. And TF32 would
    # decide other images than fp32, and both are called float.
    with fork_rng(accelerators), full_fp32(compute.device):
        shard = _shard(out)
        subject = Subject.examine(
            classifier, pixels, classes, settings.norm, compute, settings.seed
        )
        # What `auto` came to mean here.
        settings = replace(settings, precision=subject.compute.precision)
        rows = random_order(subject.ids, settings.seed)
        # Whatever else is attacked is looked at before any folder is made.
        sources = _sources(subject, beside.sources)
        siblings = _siblings(subject, beside.base, rows[: settings.audited], settings.audited)
        task = _Task(settings, suite, rows, sources, siblings, beside, shard, started)
        with closing(_ledger(subject, out, shard, fresh)) as ledger:
            return task.carried_out(subject, ledger)


@dataclass(frozen=True)
class _Task:
    """An attack that is carried out once, or twice if the classifier begins to answer at random.

    `rows` are all images in the random order in which they are attacked.
    """

    settings: AttackSettings
    suite: Suite
    rows: Sequence[int]
    sources: Sequence[TransferSource]
    siblings: Siblings
    beside: Beside
    shard: Shard
    started: float

    def carried_out(self, subject: Subject, ledger: Ledger) -> AttackReport:
        """The report on the subject, or on the same as one that answers at random."""
        # Known from an earlier call that was stopped, it need not be found out twice.
        if not ledger.turned_random:
            try:
                return self._report(subject, ledger)
            except TurnedRandom:
                # Successes may have been granted by chance: nothing of it may count.
                ledger.note_turned_random()
        return self._report(subject.as_random(), ledger)

    def _report(self, subject: Subject, ledger: Ledger) -> AttackReport:
        """Search, audit, report; raises TurnedRandom."""
        settings, suite = self.settings, self.suite
        hints = [*ledger.warnings, *first_look(subject)]
        for hint in hints:
            (self.beside.tell or _nobody)(hint)
        session = Session(subject, ledger, pulse=self.beside.pulse, shard=self.shard)
        if suite.backed_by and subject.behaviour.random:
            suite = self._backed(suite, "the classifier answers at random", hints)
        # What is behind the suite must be left time; to classify the clean images is part of it.
        end = FOR_FIRST if suite.backed_by else 1.0
        with session.phase() as first:
            found, audit_found, passes = self._judged(session, suite, (0.0, end), Count(0, 0))
            # Nor where too little was measured to tell: what few images stand is attacked at once.
            doubtful = bool(first.unfinished) or audit_found.verdict != "not detected"
            if suite.backed_by and doubtful:
                first.discard()  # what time cut short is gone on with
        if suite.backed_by and doubtful:
            suite = self._backed(suite, "; ".join(audit_found.evidence) or "time ended", hints)
            since = subject.classifier.passes.count
            found, audit_found, again = self._judged(session, suite, (end, 1.0), since)
            passes = [one + other for one, other in zip(passes, again, strict=True)]
        spent = self._spent(passes, found.n)
        return summarised(session, suite, settings, self.rows, found, audit_found, hints, spent)

    def _backed(self, suite: Suite, why: str, hints: list[str]) -> Suite:
        """The suite with the one behind it, which is told and added to the hints."""
        hint = f"suite {self.settings.suite} is not enough ({why}): suite {suite.backed_by} goes on"
        (self.beside.tell or _nobody)(hint)
        hints.append(hint)
        return suite.backed()

    def _judged(
        self, session: Session, suite: Suite, part: tuple[float, float], since: Count
    ) -> tuple[Found, Audit, list[int]]:
        """What a suite finds in that part of the time budget, from one share of it to another, what
        the audit says of it, and the passes forward and back that each of the two took, `since`
        those before.
        """
        begin, end = part
        counted = [since]
        with session.phase(deadline=self._after(begin + FOR_SUITE * (end - begin))):
            found = self._search(session, suite)
        session.look_again(_points(found))
        counted.append(session.subject.classifier.passes.count)
        # Only the audit gets the time that the suite has left over.
        with session.phase(deadline=self._after(end)):
            audit_found = self._audit(session, found)
        if not suite.transfer:
            # Under attackers who do not know the classifier, what the audit broke does not count.
            found = with_all_else(session, found, self.settings, self.rows)
        session.look_again(_points(found))
        counted.append(session.subject.classifier.passes.count)
        passes = [count for earlier, later in pairwise(counted) for count in later.since(earlier)]
        return found, audit_found, passes

    def _search(self, session: Session, suite: Suite) -> Found:
        if self.settings.estimate:
            return estimated(session, suite, self.settings, self.rows)
        return search(session, suite, self.settings, self.rows, self.sources)

    def _audit(self, session: Session, found: Found) -> Audit:
        # What only a black box broke, after gradients had failed, is evidence against gradients.
        broken = found.broken.items()
        return audit(
            session,
            self.settings.eps,
            white={row: each.entry for row, each in broken if not each.black_box},
            black={row: each.entry for row, each in broken if each.black_box},
            rows=self.rows[: found.n],
            images=self.settings.audited,
            siblings=self.siblings,
        )

    def _spent(self, passes: Sequence[int], images: int) -> Spent:
        """What this call took, by all processes, for each of so many images."""
        each = [round(count / images, 1) for count in self.shard.total(passes)]
        seconds = round(time.monotonic() - self.started, 1)
        return Spent(seconds, (each[0], each[1]), (each[2], each[3]))

    def _after(self, share: float) -> float | None:
        """When that share of the time budget is over; None without a budget."""
        budget = self.settings.budget
        return None if budget is None else self.started + share * budget


def _sources(subject: Subject, functions: Mapping[str, Function]) -> list[TransferSource]:
    found = [TransferSource.examine(name, each, subject) for name, each in functions.items()]
    # Runs are kept by it: with another one a process would not find those of the others.
    require_same({f"source {source.name}": source.fingerprint for source in found})
    return found


def _siblings(
    subject: Subject, base: Function | None, rows: Sequence[int], images: int
) -> Siblings:
    """The same model without its defence on these rows, and a network of known robustness."""
    # To tell 1 point takes more than 100 images.
    reference, known = calibration.reference(subject.compute, 2 * images)
    if base is None:
        return Siblings(None, reference, known, calibration.EPS, keep=True)
    # The audited images and no others: the base is compared on what the audit sees.
    pixels, labels = subject.images[list(rows)], subject.labels[list(rows)]
    try:
        # All images, although few are attacked: a label without a logit must come to light.
        examine(base, subject.images, subject.labels, subject.compute.device)
        other = Subject.examine(base, pixels, labels, subject.norm, subject.compute, subject.seed)
    except ParadiseError as error:
        raise type(error)(f"base: {error}") from error
    # If the base turns random, that is no reason to attack the subject once more.
    return Siblings(Session(other, watched=False), reference, known, calibration.EPS, keep=True)


def _points(found: Found) -> list[Tensor]:
    """The points that broke images, each [C, H, W]."""
    points = [each.entry.point for each in found.broken.values()]
    return [point for point in points if point is not None]


def _nobody(line: str) -> None:
    """Where nobody listens."""


def _ledger(subject: Subject, out: Path | None, shard: Shard, fresh: bool) -> Ledger:
    """A ledger headed by what must be the same for runs on record to count."""
    if out is None:
        return Ledger()
    if fresh:
        if shard.rank == 0:
            discard(out)
        shard.any(False)  # nobody writes before all is discarded
    # Not the suite nor eps, which are in the labels of runs: one folder may hold several. Batch
    # shape, precision and compiler round differently, and with them other points succeed.
    compute = subject.compute
    header = {
        "shape": list(subject.images.shape[1:]),
        **subject.identity,
        "norm": subject.norm,
        "seed": subject.seed,
        "images_sha256": images_digest(subject),
        "width": compute.width,
        "precision": compute.precision,
        "compiled": compute.compiled,
        ATTACKS: calibration.package_digest(),
    }
    return FolderLedger(out, header, writer=shard.rank)


def _shard(out: Path | None) -> Shard:
    """This process's part under `torchrun`."""
    if world_size() == 1:
        return Shard()
    # Each process knows only its own runs until it reads those of the others.
    if out is None:
        raise UsageError("several processes share their work through a folder: name one with --out")
    join()
    return Shard(rank(), world_size(), any_process, over_all_processes)
