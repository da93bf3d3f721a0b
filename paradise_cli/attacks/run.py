"""The whole of it in one call: attack a classifier, audit the attack, report."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli import __version__
from paradise_cli.attacks.audit import calibration
from paradise_cli.attacks.audit.audit import VERDICTS, Audit, audit
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.engine.classifier import DRAWS, SURE_DRAWS, Function, examine
from paradise_cli.attacks.engine.lane_batch import reached
from paradise_cli.attacks.report import CLEAN, AttackReport, on_lattice, stage_rows
from paradise_cli.attacks.session.inputs import (
    check_limits,
    checked_images,
    checked_labels,
    checked_levels,
    checked_suite,
    choose_compute,
    device_of,
    fingerprint,
)
from paradise_cli.attacks.session.ledger import FolderLedger, Ledger
from paradise_cli.attacks.session.session import EOT_DRAWS, Pulse, Session, Shard
from paradise_cli.attacks.session.subject import Subject, TransferSource
from paradise_cli.attacks.session.suite import (
    Break,
    StageResult,
    Suite,
    looks,
    random_order,
    run_suite,
    worst_case,
)
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import describe, full_fp32
from paradise_cli.core.processes import any_process, join, rank, world_size
from paradise_cli.core.proportions import Proportion, clopper_pearson
from paradise_cli.perturbations.threat import TOLERANCE, threat_model

AUDITED = 200
"""Images that the audit attacks in its own ways."""
FOR_SUITE = 0.75
"""Share of a time budget that the suite may take before the audit."""

Broken = dict[int, Break]
"""Of each row that was broken, what broke it."""


def attack(
    classifier: Function,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    eps: float,
    norm: str = "linf",
    suite: str = "standard",
    seed: int = 0,
    curve: Sequence[float] = (),
    sources: Mapping[str, Function] | None = None,
    base: Function | None = None,
    ci: float | None = None,
    budget: float | None = None,
    audited: int = AUDITED,
    out: Path | None = None,
    device: torch.device | str | None = None,
    precision: str = "auto",
    compiled: bool = False,
    batch_size: int | None = None,
    pulse: Pulse | None = None,
) -> AttackReport:
    """Robust accuracy of any function from pixels to logits, with its interval and the verdict of
    the audit.

    Images are [N, C, H, W], float in [0, 1] or uint8, labels int [N]; `eps` is in pixel units, as
    8/255. The suite also runs at each eps of the `curve`, from what fell at smaller ones. Suite
    `transfer` makes its images on the `sources`; `base` is the model without its defence, which the
    audit expects to fall. With `ci` images are attacked in a random order until no end of the
    interval is further off; `budget` is in seconds. With `out` each run is put down there, and the
    same call goes on. `batch_size` is a matter of speed and memory. `compiled` searches in a
    `torch.compile` copy. Raises UsageError, ParadiseError.
    """
    started = time.monotonic()
    levels = checked_levels(norm, eps, curve)
    eps, chosen = float(eps), checked_suite(suite, sources)
    check_limits(ci, budget, audited)
    pixels, classes = checked_images(images), checked_labels(labels, len(images))
    compute = choose_compute(
        device_of(classifier, device), pixels.shape[2:], precision, batch_size, compiled
    )
    with full_fp32(compute.device):
        shard = _shard(out)
        subject = Subject.examine(classifier, pixels, classes, norm, compute, seed)
        others = [
            TransferSource.examine(name, source, subject)
            for name, source in (sources or {}).items()
        ]
        order = random_order(subject.ids, seed)
        siblings = _siblings(subject, base, order[:audited], audited)
        settings = _settings(subject, eps, suite) | {"ci": ci, "budget": budget}
        with closing(_ledger(subject, settings, out, shard.rank)) as ledger:
            session = Session(subject, ledger, pulse=pulse, shard=shard)
            with session.phase(deadline=_after(started, budget, FOR_SUITE)):
                found = _until_sure(session, chosen, levels, eps, order, others, ci)
            with session.phase(deadline=_after(started, budget)):
                judged, found = _audited(session, chosen, found, eps, order, audited, siblings)
        settings |= {
            "audited": min(audited, found.n),
            "seconds": round(time.monotonic() - started, 1),
        }
        return _report(session, chosen, eps, order, found, judged, settings)


def _after(started: float, budget: float | None, share: float = 1.0) -> float | None:
    """When that share of the time budget is over; None without a budget."""
    return None if budget is None else started + share * budget


@dataclass(frozen=True)
class _Found:
    """What the suite found on the first n images of the order."""

    n: int
    right: int
    results: list[StageResult]
    broken: Broken
    carried: Broken
    curve: tuple[tuple[float, frozenset[int]], ...]  # the rows broken at each eps
    looks: int  # 0 if the number of images was not chosen by looking

    @property
    def interval(self) -> Proportion:
        left = self.right - len(self.broken)
        if not self.looks:
            return Proportion.of(left, self.n)
        return Proportion(left / self.n, *clopper_pearson(left, self.n, 0.05 / self.looks))

    @property
    def half_width(self) -> float:
        return max(
            self.interval.high - self.interval.value, self.interval.value - self.interval.low
        )

    @property
    def kind(self) -> str:
        return f"Clopper-Pearson 95%, over {self.looks} looks" if self.looks else "Wilson 95%"


def _until_sure(
    session: Session,
    suite: Suite,
    levels: Sequence[float],
    eps: float,
    order: Sequence[int],
    sources: Sequence[TransferSource],
    ci: float | None,
) -> _Found:
    """Attack more and more images, until the interval is narrow enough or there are no more."""
    sizes = [len(order)] if ci is None else list(looks(len(order)))
    last: _Found | None = None
    for n in sizes:
        with session.phase() as look:
            found = _at_every_eps(session, suite, levels, eps, order[:n], sources)
            if look.unfinished and last is not None:
                # Of the larger sample most would stand because nobody came to attack them.
                look.discard()
                break
        last = found if ci is None else replace(found, looks=len(sizes))
        if look.unfinished or ci is None or last.half_width <= ci:
            break
    assert last is not None
    return last


def _at_every_eps(
    session: Session,
    suite: Suite,
    levels: Sequence[float],
    eps: float,
    rows: Sequence[int],
    sources: Sequence[TransferSource],
) -> _Found:
    """The suite on these rows at each eps, from small to large; all but the curve is of `eps`."""
    correct = session.subject.correct
    broken: Broken = {}
    curve = []
    for level in levels:
        carried = dict(broken)
        before = {row: each.entry for row, each in carried.items()}
        results = run_suite(session, suite, level, rows, carried=before, sources=sources)
        broken = {**worst_case(results, correct), **carried}
        curve.append((level, frozenset(broken)))
        if level == eps:
            here = (results, dict(broken), carried)
    right = sum(bool(correct[row]) for row in rows)
    return _Found(len(rows), right, *here, tuple(curve), looks=0)


def _siblings(
    subject: Subject, base: Function | None, rows: Sequence[int], images: int
) -> Siblings:
    """The same model without its defence on these rows of the subject, and a network of known
    robustness.
    """
    # To tell 1 point takes more than 100 images.
    reference, known = calibration.reference(subject.compute, 2 * images)
    if base is None:
        return Siblings(None, reference, known, calibration.EPS)
    pixels, labels = subject.images[list(rows)], subject.labels[list(rows)]
    try:
        # All images, although few are attacked: labels that the base has no logits for come first.
        examine(base, subject.images, subject.labels, subject.compute.device)
        other = Subject.examine(base, pixels, labels, subject.norm, subject.compute, subject.seed)
    except ParadiseError as error:
        raise type(error)(f"base: {error}") from error
    return Siblings(Session(other), reference, known, calibration.EPS)


def _audited(
    session: Session,
    suite: Suite,
    found: _Found,
    eps: float,
    order: Sequence[int],
    images: int,
    siblings: Siblings,
) -> tuple[Audit, _Found]:
    """The audit, and what was found with the images that it alone broke.

    But not for a suite that transfers: its accuracy is that under attackers who do not know the
    classifier.
    """
    white = {row: each.entry for row, each in found.broken.items() if not each.black_box}
    black = {row: each.entry for row, each in found.broken.items() if each.black_box}
    rows = order[: found.n]
    judged = audit(
        session, eps, white=white, black=black, rows=rows, images=images, siblings=siblings
    )
    return judged, found if suite.transfer else _with_audit(session, found, eps, order)


def _with_audit(session: Session, found: _Found, eps: float, order: Sequence[int]) -> _Found:
    """What was found, with the images that stood against the suite and that something else broke
    at any eps.
    """
    nearest = {}
    for row in order[: found.n]:
        entry = session.nearest(row)
        if entry is not None and bool(session.subject.correct[row]):
            nearest[row] = entry

    def within(level: float) -> set[int]:
        return {row for row, entry in nearest.items() if entry.distance <= level + TOLERANCE}

    broken = dict(found.broken)
    for row in within(eps) - broken.keys():
        attack = nearest[row].label.partition(" {")[0]
        broken[row] = Break(f"audit: {attack}", nearest[row], False)
    curve = tuple((level, gone | within(level)) for level, gone in found.curve)
    return replace(found, broken=broken, curve=curve)


def _report(
    session: Session,
    suite: Suite,
    eps: float,
    order: Sequence[int],
    found: _Found,
    judged: Audit,
    settings: dict[str, Any],
) -> AttackReport:
    subject, rows = session.subject, sorted(order[: found.n])
    threat = threat_model(subject.norm, eps)
    images = subject.images[rows]
    points = images.clone()
    broken_by = [None if bool(subject.correct[row]) else CLEAN for row in rows]
    for place, row in enumerate(rows):
        if row in found.broken:
            broken_by[place], entry, _ = found.broken[row]
            assert entry.point is not None
            points[place] = entry.point
    lattice = on_lattice(points, images, threat)
    labels = subject.labels[rows]
    wrong = reached("fool", subject.classifier.confirm(lattice).cpu(), labels, labels)
    rounded = int((~wrong | ~threat.contains(lattice, images)).sum())
    evidence = judged.evidence
    if session.unfinished:  # what was not attacked to the end stands only so far
        evidence = (*evidence, f"the time ran out in: {', '.join(session.unfinished)}")
        if any(not what.startswith("audit") for what in session.unfinished):
            judged = replace(judged, verdict=max(judged.verdict, "suspect", key=VERDICTS.index))
        judged = replace(judged, evidence=evidence)
    return AttackReport(
        clean_accuracy=Proportion.of(found.right, found.n),
        robust_accuracy=found.interval,
        interval=found.kind,
        stages=stage_rows(
            found.results, found.right, found.n, suite.independent, len(found.carried)
        ),
        curve=tuple(
            (level, Proportion.of(found.right - len(gone), found.n)) for level, gone in found.curve
        ),
        verdict=judged.verdict,
        audit=judged,
        rows=torch.tensor(rows),
        standing=torch.tensor([name is None for name in broken_by]),
        broken_by=tuple(broken_by),
        adversarial=points,
        distance=threat.distance(points, images),
        lattice=lattice,
        lattice_accuracy=Proportion.of(rounded, found.n),
        unfinished=tuple(session.unfinished),
        notes=_notes(subject, suite, judged, eps, found, settings["ci"]),
        settings=settings,
    )


def _notes(
    subject: Subject, suite: Suite, judged: Audit, eps: float, found: _Found, ci: float | None
) -> tuple[str, ...]:
    notes = []
    if suite.transfer:
        known = [
            f"PGD-20 left {share:.1%} of {n}" for level, share, n in judged.curve if level == eps
        ]
        notes.append(
            "these images were made on other models: this accuracy bounds nothing that an attacker"
            " could do"
            f" who knows this one ({', '.join(['in the audit', *known])})"
        )
    if subject.behaviour.gradient != "flows":
        notes.append(
            "no gradient of the logits comes back from the classifier (NumPy, no_grad, detach or"
            " argmax inside?): attacks that follow gradients could only guess"
        )
    if subject.behaviour.random:
        notes.append(
            f"the classifier answers at random: gradients average {EOT_DRAWS} answers, each"
            " decision the"
            f" probabilities of {DRAWS} fresh ones, and a success those of {SURE_DRAWS} more"
        )
    if subject.behaviour.batch_dependent:
        notes.append(
            "the classifier's answer to an image depends on the other images of its batch: no"
            " accuracy of"
            " single images follows from these numbers"
        )
    if subject.behaviour.classes < 4:
        notes.append(
            f"the DLR loss needs more than {subject.behaviour.classes} classes: the margin takes"
            " its place"
        )
    if ci is not None and found.half_width > ci:
        reasons = "images or time ended, or the audit broke more"
        notes.append(
            f"the interval reaches {found.half_width:.1%} to a side, not {ci:.1%}: {reasons}"
        )
    return tuple(notes)


def _settings(subject: Subject, eps: float, suite: str) -> dict[str, Any]:
    index = hashlib.sha256(
        "".join(subject.ids).encode() + subject.labels.numpy().tobytes()
    ).hexdigest()
    fraction = Fraction(eps).limit_denominator(1000)
    return {
        "eps": eps,
        "eps_text": str(fraction) if abs(float(fraction) - eps) < 1e-9 else f"{eps:g}",
        "norm": subject.norm,
        "suite": suite,
        "seed": subject.seed,
        "given": len(subject.images),
        "images_sha256": index,
        "width": subject.compute.width,
        "precision": subject.compute.precision,
        "compiled": subject.compute.compiled,
        "paradise": __version__,
        "machine": describe(subject.compute.device),
    }


def _ledger(subject: Subject, settings: Mapping[str, Any], out: Path | None, writer: int) -> Ledger:
    """A ledger headed by what must be the same for runs on record to count."""
    if out is None:
        return Ledger()
    kept = ("norm", "seed", "images_sha256", "width", "precision", "compiled")
    of_classifier = fingerprint(subject.function, subject.behaviour, subject.logits)
    header = {"shape": list(subject.images.shape[1:]), "classifier": of_classifier}
    return FolderLedger(out, header | {name: settings[name] for name in kept}, writer=writer)


def _shard(out: Path | None) -> Shard:
    """This process's part under `torchrun`."""
    if world_size() == 1:
        return Shard()
    if out is None:
        raise UsageError("several processes share their work through a folder: name one with --out")
    join()
    return Shard(rank(), world_size(), any_process)
