"""Rows on the model itself and on the harness: randomness, latents, what is known (method.md 5.5).

A row that does not apply to a classifier says so.
"""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from paradise_cli.attacks.audit.calibration import kept
from paradise_cli.attacks.audit.context import COMPARISON_STEPS, CURVE_STEPS, PGD_STEPS, Case, Rows
from paradise_cli.attacks.audit.declare import NOT_APPLICABLE, Finding, row
from paradise_cli.attacks.audit.evidence import Gap, together
from paradise_cli.attacks.engine.classifier import ThroughLatents
from paradise_cli.attacks.engine.surrogate import HeldNoise, MeanPath
from paradise_cli.attacks.protocol.lanes import Latent


@row(
    11,
    "random answers",
    passes="at most {limit} points apart",
    means="randomness hides gradients",
    limit=0.02,
)
def random_answers(case: Case, limit: float) -> Finding:
    """Averaged gradients against those of one draw, and of the mean of the posterior; 42 g."""
    subject = case.subject
    if not subject.behaviour.random:
        return Finding(NOT_APPLICABLE, "the classifier gives the same answer twice", 0)
    # The averaged gradient is what attacks use: neither way to avoid the noise may do better.
    found = {"averaged": case.pgd_within(CURVE_STEPS)}
    ways = {"one draw": subject.classifier_of(HeldNoise(subject.function, subject.seed))}
    # An encoder has one more way around its noise: not to draw at all.
    if subject.behaviour.latents and isinstance(subject.function, ThroughLatents):
        ways["posterior mean"] = subject.classifier_of(MeanPath(subject.function))
    for way, victim in ways.items():
        found[way] = case.broken_by("pgd", victim=victim, tag=f" {way}", steps=CURVE_STEPS)
    gaps = [
        case.gap(one, other, limit, shares=2 * len(ways))
        for way in ways
        # Either direction tells: noise that hides, or an average that misleads.
        for one, other in permutations((found["averaged"], found[way]))
    ]
    text = ", ".join(f"{way} {case.accuracy(broken):.1%}" for way, broken in found.items())
    return Finding(together(*(gap.result for gap in gaps)), text, case.n)


@row(
    12,
    "latent",
    passes="at most {limit} points more break",
    means="logits deflect attacks",
    limit=0.01,
)
def latent(case: Case, limit: float) -> Finding:
    """Attacks on what lies between pixels and logits find no more; 255 g for an encoder."""
    encoder = case.subject.classifier.latent
    if encoder is None:
        return Finding(NOT_APPLICABLE, "no encoder: nothing lies between pixels and logits", 0)
    names = ["latent_mean"]
    if _stochastic(case, encoder):
        # Without a width there is nothing to shift but the mean.
        names += ["latent_sigma", "latent_shift"]
    found = {
        name: case.broken_by(name, rows=case.standing, steps=COMPARISON_STEPS) for name in names
    }
    # Towards the class means of these very images: the shortest way that a latent could be moved.
    found["latent_towards"] = case.broken_by(
        "latent_towards",
        rows=case.standing,
        tag=" of the images",
        steps=COMPARISON_STEPS,
        targets=2,
        means=_class_means(case, encoder),
    )
    text = ", ".join(f"{name} broke {len(broken)}" for name, broken in found.items())
    gap = case.further(frozenset().union(*found.values()), limit)
    return Finding(gap.result, f"{text} more of {case.n} images", case.n)


def _stochastic(case: Case, encoder: Latent) -> bool:
    # One image tells: a width of 0 comes from the head, not from the image.
    with torch.no_grad():
        image = case.subject.images[list(case.rows)[:1]].to(case.subject.compute.device)
        return bool((encoder.encode(image).sigma > 0).all())


def _class_means(case: Case, encoder: Latent) -> Tensor:
    """The mean of mu over the images of each class, [classes, K]; of all where a class has none."""
    subject = case.subject
    rows = list(case.rows)
    with torch.no_grad():
        parts = torch.split(subject.images[rows], subject.compute.width)
        mu = torch.cat([encoder.encode(part.to(subject.compute.device)).mu for part in parts])
    # Sums by class as one product; a class without images would divide by zero.
    member = one_hot(subject.labels[rows], subject.behaviour.classes).to(mu)  # [n, classes]
    count = member.sum(0)[:, None]
    return torch.where(count > 0, member.T @ mu / count.clamp(min=1), mu.mean(0))


@row(
    13,
    "ablation",
    passes="at most {limit}% of a base network stands, here or in grey",
    means="attacks broken",
    limit=0.01,
)
def ablation(case: Case, limit: float) -> Finding:
    """The network without its defence breaks; 202 g.

    At a small eps an honest base stands too; attacks that fail in the grey are broken.
    """
    if case.siblings.base is None:
        return Finding(NOT_APPLICABLE, "no network without the defence was given", 0)
    base = case.on(case.siblings.base, case.eps)
    near = frozenset(base.pgd)
    text = f"PGD-{PGD_STEPS} {base.accuracy(near):.1%} on the base network"
    result = Gap(len(base.correct - near), None, base.n, limit).result
    # What stands may be the network's own strength at a small eps: nothing stands in grey.
    if result == "fail":
        far = base.broken_by("pgd", eps=base.grey_eps, steps=PGD_STEPS)
        text += f", {base.accuracy(far):.1%} at {base.words_for(base.grey_eps)}"
        if Gap(len(base.correct - far), None, base.n, limit).result != "fail":
            result = "inconclusive"
            text += ": at the audited eps the base itself stands"
    return Finding(result, text, base.n)


@row(
    14,
    "calibration",
    passes="at most {limit} points from what is known to break",
    means="attacks broken",
    needed=True,
    limit=0.01,
)
def calibration(case: Case, limit: float) -> Finding:
    """On a network of known robustness the attacks break what AutoAttack does; 909 g.

    Compared image by image, so that few images show a difference.
    """
    siblings = case.siblings
    if siblings.reference is None:
        return Finding(NOT_APPLICABLE, "no network of known robustness was given", 0)
    other = case.on(siblings.reference, siblings.reference_eps)

    def find() -> Rows:
        return other.broken_by("multi_targeted", steps=100, restarts=1)

    broken = kept(other.session, other.eps, find) if siblings.keep else find()
    # AutoAttack's list counts misclassified images too.
    wrong = broken | (frozenset(other.rows) - other.correct)
    # Both ways: attacks that miss images are weak, and those that break too many cheat.
    gaps = [
        other.gap(one, less, limit, shares=2) for one, less in permutations((wrong, siblings.known))
    ]
    text = (
        f"on a network of known robustness and {other.n} images of its own Multi-Targeted leaves"
        f" {other.accuracy(wrong):.1%}, known {1 - len(siblings.known) / max(1, other.n):.1%}:"
        f" {len(siblings.known - wrong)} missed, {len(wrong - siblings.known)} not known to break"
    )
    return Finding(together(*(gap.result for gap in gaps)), text, other.n)
