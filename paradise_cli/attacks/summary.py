"""The report of a session: what was found, with its interval, its verdict and what to know."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paradise_cli import __version__
from paradise_cli.attacks.audit.audit import VERDICTS, Audit
from paradise_cli.attacks.engine.classifier import DRAWS, SURE_DRAWS
from paradise_cli.attacks.engine.jobs import reached
from paradise_cli.attacks.report import (
    CLEAN,
    AttackReport,
    Estimate,
    Provenance,
    Spent,
    on_lattice,
    stage_rows,
)
from paradise_cli.attacks.search import Found
from paradise_cli.attacks.session.inputs import images_digest
from paradise_cli.attacks.session.session import EOT_DRAWS, Session
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import Suite
from paradise_cli.core.machine import describe
from paradise_cli.core.proportions import Proportion
from paradise_cli.perturbations.threat import threat_model


def summarised(
    session: Session,
    suite: Suite,
    settings: AttackSettings,
    order: Sequence[int],
    found: Found,
    audit_found: Audit,
    hints: Sequence[str],
    spent: Spent,
) -> AttackReport:
    """The report on the first images of the order, as many as were attacked."""
    # In the order in which the images were given, and not the random one of the attack.
    subject, rows, n = session.subject, sorted(order[: found.n]), found.n
    threat = threat_model(subject.norm, settings.eps)
    images, labels = subject.images[rows], subject.labels[rows]
    points, broken_by = _worst_points(subject, rows, found)
    # A picture file holds 8 bits a pixel, and rounding may undo an attack.
    lattice = on_lattice(points, images, threat)
    # As sure as a success must be: of a random classifier one answer says little.
    answers = subject.classifier.confirm(lattice).cpu()
    wrong = reached("fool", answers, labels, labels)
    audit_found = _unless_unfinished(audit_found, session.unfinished)
    found_there = subject.classifier.judge(points).cpu()
    notes = _without_numbers(found_there, subject, broken_by)
    estimate = _estimate(found)
    return AttackReport(
        clean_accuracy=Proportion.of(len(found.correct), n),
        robust_accuracy=found.interval,
        interval=found.kind,
        stages=stage_rows(found),
        curve=_curve(found, settings),
        verdict=audit_found.verdict,
        audit=audit_found,
        rows=torch.tensor(rows),
        standing=torch.tensor([name is None for name in broken_by]),
        broken_by=tuple(broken_by),
        adversarial=points,
        distance=threat.distance(points, images),
        predicted=found_there.argmax(1),
        lattice=lattice,
        lattice_accuracy=_lattice_accuracy(found, rows, wrong),
        unfinished=session.unfinished,
        notes=(*hints, *notes, *_notes(subject, suite, settings, found, audit_found, estimate)),
        settings=replace(settings, audited=min(settings.audited, n)),
        provenance=_provenance(subject, spent),
        estimate=estimate,
    )


def _lattice_accuracy(found: Found, rows: Sequence[int], wrong: Tensor) -> Proportion:
    """The share of 8-bit images at these rows that are not wrong (bool [n]).

    With a sample, those that stand outside it count as those in it do.
    """
    if found.sample is None:
        return Proportion.of(int((~wrong).sum()), found.n)
    sample = found.sample
    fine = {row for row, bad in zip(rows, wrong.tolist(), strict=True) if not bad}
    stand = sample.scaled(len(fine & {*sample.rows}))
    # Of all that stood against the cheap suite, and of the others, which are known.
    known = len(fine - sample.stood)
    return Proportion(*((known + each) / found.n for each in (stand.value, stand.low, stand.high)))


def _curve(found: Found, settings: AttackSettings) -> tuple[tuple[float, Proportion], ...]:
    if found.sample is not None:
        return ((settings.eps, found.interval),)
    return tuple(
        (level, Proportion.of(len(found.correct) - len(broken), found.n))
        for level, broken in found.curve
    )


def _estimate(found: Found) -> Estimate | None:
    if found.sample is None or found.in_general is None:
        return None
    sample = found.sample
    inside = found.broken_otherwise[0]
    return Estimate(sample.standing, sample.rows, sample.left, inside, found.in_general)


def _worst_points(
    subject: Subject, rows: Sequence[int], found: Found
) -> tuple[Tensor, list[str | None]]:
    """What broke each of these rows [n, C, H, W], the image itself where nothing did, and its
    name.
    """
    points = subject.images[list(rows)].clone()
    broken_by: list[str | None] = []
    for place, row in enumerate(rows):
        if row in found.broken:
            name, entry, _ = found.broken[row]
            assert entry.point is not None  # every success is recorded with its point
            points[place] = entry.point
            broken_by.append(name)
        else:
            broken_by.append(None if row in found.correct else CLEAN)
    return points, broken_by


def _unless_unfinished(audit_found: Audit, unfinished: Sequence[str]) -> Audit:
    """The verdict, at least `suspect` if the suite was cut short.

    What was not attacked to the end stands only so far.
    """
    if not unfinished:
        return audit_found
    evidence = (*audit_found.evidence, f"the time ran out in: {', '.join(unfinished)}")
    # Of what the audit could not finish its own rows tell.
    verdict = audit_found.verdict
    if any(not name.startswith("audit") for name in unfinished):
        verdict = max(verdict, "suspect", key=VERDICTS.index)
    return replace(audit_found, verdict=verdict, evidence=evidence)


def _without_numbers(
    answers: Tensor, subject: Subject, broken_by: Sequence[str | None]
) -> list[str]:
    """What to say of clean images, and of points that broke images, whose logits are no numbers."""
    bad = ~answers.isfinite().all(1)
    fooled = torch.tensor([name not in (None, CLEAN) for name in broken_by])
    notes = []
    if clean := int((~subject.logits.isfinite().all(1)).sum()):
        notes.append(
            f"the logits of {clean:,} of all {len(subject.logits):,} clean images are NaN or"
            " infinite: they count as misclassified"
        )
    if broken := int((bad & fooled).sum()):
        notes.append(
            f"{broken:,} of the {int(fooled.sum()):,} images that attacks broke have NaN or"
            " infinite logits there, which count as fooled: the classifier's numbers overflow, or"
            " it divides by zero"
        )
    return notes


def _provenance(subject: Subject, spent: Spent) -> Provenance:
    return Provenance(
        given=len(subject.images),
        images_sha256=images_digest(subject),
        width=subject.compute.width,
        paradise=__version__,
        machine=describe(subject.compute.device),
        spent=spent,
    )


def _notes(
    subject: Subject,
    suite: Suite,
    settings: AttackSettings,
    found: Found,
    audit_found: Audit,
    estimate: Estimate | None,
) -> list[str]:
    notes = []
    if suite.transfer:
        # The one number at hand under an attacker who knows the classifier.
        known = [
            f"PGD-20 left {share:.1%} of {n}"
            for level, share, n in audit_found.curve
            if level == settings.eps
        ]
        notes.append(
            "these images were made on other models: this accuracy bounds nothing that an attacker"
            f" could do who knows this one ({', '.join(['in the audit', *known])})"
        )
    notes += _notes_on_behaviour(subject)
    if estimate is not None:
        attacked, general, fell = len(estimate.rows), estimate.in_general, estimate.broken_otherwise
        audit_broke = f", of which the audit broke {fell:,}" if fell else ""
        notes.append(
            f"estimated: of the {estimate.standing:,} images that stand after the cheap suite"
            f" {attacked:,} were drawn for suite {settings.suite}, and {estimate.left:,} stood"
            f"{audit_broke}; on all images of this kind {general.low:.2%} to {general.high:.2%}"
            " (95%, both errors)"
        )
    ci = settings.ci
    # Asked for and not reached: the reader should not have to compare.
    if ci is not None and found.half_width > ci:
        reasons = "images or time ended, or the audit broke more"
        notes.append(
            f"the interval reaches {found.half_width:.1%} to a side, not {ci:.1%}: {reasons}"
        )
    return notes


def _notes_on_behaviour(subject: Subject) -> list[str]:
    behaviour, notes = subject.behaviour, []
    if subject.turned_random:
        notes.append(
            "the classifier gave one answer when it was first asked and others later: it was"
            " attacked anew as one that answers at random"
        )
    if behaviour.random:
        notes.append(
            f"the classifier answers at random: gradients average {EOT_DRAWS} answers, each"
            f" decision the probabilities of {DRAWS} fresh ones, and a success those of"
            f" {SURE_DRAWS} more"
        )
    if behaviour.batch_dependent:
        notes.append(
            "the classifier's answer to an image depends on the other images of its batch: no"
            " accuracy of single images follows from these numbers"
        )
    # Its denominator is made of the third and fourth logit.
    if behaviour.classes < 4:
        notes.append(
            f"the DLR loss needs more than {behaviour.classes} classes: the margin takes its place"
        )
    return notes
