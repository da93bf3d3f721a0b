"""Rows on how strong gradient attacks are: steps, eps, losses, scales, step sizes (method.md 5.5).

Costs are at most, for each image that stands, in queries with a gradient (g) or without (f); images
that break cost few. The limits are those of method.md; none was chosen for one classifier.
"""

from itertools import pairwise, permutations

import torch
from torch.nn.functional import cross_entropy

from paradise_cli.attacks.audit.context import COMPARISON_STEPS, PGD_STEPS, Case
from paradise_cli.attacks.audit.declare import Finding, row
from paradise_cli.attacks.audit.evidence import Gap, Result, together
from paradise_cli.attacks.engine.surrogate import Scaled
from paradise_cli.attacks.protocol.lanes import input_gradient
from paradise_cli.core.randomness import keyed_uniform, seed_of
from paradise_cli.perturbations.threat import threat_model

SCALES = (1e-3, 1e-1, 1e1, 1e3)
STEP_SIZES = (1 / 20, 1 / 10, 1 / 4, 1 / 2, 1, 2)
"""As shares of eps; 1/4 is what PGD takes everywhere else."""


@row(
    1,
    "iterated against one step",
    passes="PGD leaves at most {limit} points more than FGSM",
    means="masked gradients",
    limit=0.0,
)
def one_step(case: Case, limit: float) -> Finding:
    """Many small steps do no worse than one large one; 101 g, shared by most rows, and 2 g."""
    # FGSM's one step is among the points that PGD could reach.
    single = case.broken_by("fgsm")
    iterated = frozenset(case.pgd)
    text = f"PGD-{PGD_STEPS} {case.accuracy(iterated):.1%}, FGSM {case.accuracy(single):.1%}"
    return Finding(case.gap(single, iterated, limit).result, text, case.n)


@row(
    3,
    "unbounded",
    passes="at most chance where all images can be grey",
    means="masked gradients",
    decisive=True,
)
def unbounded(case: Case) -> Finding:
    """Within an eps that makes every image grey nothing stands, but for chance; 102 g.

    How far 64/255 leads depends on the kind of image: it is reported, and decides nothing.
    """
    parts = []
    radii = (64 / 255, case.grey_eps) if case.subject.norm == "linf" else (case.grey_eps,)
    for eps in radii:
        # From the image itself: a random start would leave a plateau by chance, and hide it.
        broken = case.broken_by("pgd", eps=eps, steps=COMPARISON_STEPS, start="image")
        parts.append(f"{case.accuracy(broken):.1%} at {case.words_for(eps)}")
    labels = case.subject.labels[list(case.rows)]
    # All grey images get one class, which is right for as many as the most frequent label has.
    chance = float(labels.bincount().max() / case.n) if case.n else 1.0
    stands = Gap(len(case.correct - broken), None, case.n, chance)
    text = f"{', '.join(parts)}; chance, the share of the most frequent class, is {chance:.1%}"
    return Finding(stands.result, text, case.n)


@row(
    4,
    "accuracy against eps",
    passes="rises by at most {limit} points, and ends below half of where it starts",
    means="masked gradients",
    limit=0.0,
)
def falling(case: Case, limit: float) -> Finding:
    """A larger ball holds the smaller one, so that accuracy can only fall; 147 g."""
    points = case.curve
    steps = len(points) - 1
    # Each eps is attacked anew: carried points would make the curve fall by themselves.
    rises = [case.gap(near, far, limit, shares=steps) for (_, near), (_, far) in pairwise(points)]
    end = points[-1][1]
    half = len(case.correct) / max(1, case.n) / 2
    # From eps 0 on accuracy cannot rise: the share of that step is to be had.
    flat = Gap(len(case.correct - end), None, case.n, half, shares=steps)
    text = ", ".join(
        f"{case.accuracy(broken):.1%} at {case.words_for(eps)}" for eps, broken in points
    )
    largest = max(rise.estimate for rise in rises)
    result = together(flat.result, *(rise.result for rise in rises))
    return Finding(result, f"{text}; largest rise {largest:.1%}", case.n)


@row(
    6,
    "convergence",
    passes="twice the effort breaks at most {limit} points more",
    means="attack too weak",
    limit=0.01,
)
def convergence(case: Case, limit: float) -> Finding:
    """Twice the steps or restarts break nothing that stood against everything; 403 g."""
    # Only what stands against everything counts: the number reported is no single attack's.
    longer = case.broken_by("pgd", rows=case.standing, steps=2 * PGD_STEPS)
    again = case.broken_by("pgd", rows=case.standing, steps=PGD_STEPS, restarts=2)
    gaps = [case.further(broken, limit, shares=2) for broken in (longer, again)]
    text = (
        f"of {case.n} images twice the steps broke {len(longer)} more,"
        f" twice the restarts {len(again)}"
    )
    return Finding(together(*(gap.result for gap in gaps)), text, case.n)


@row(
    7,
    "loss",
    passes="losses at most {limit} points apart",
    means="saturated softmax",
    limit=0.03,
)
def losses(case: Case, limit: float) -> Finding:
    """The largest difference between two of three losses; 202 g."""
    # Every ordered pair: which loss is the best one is not known beforehand.
    gaps = [
        case.gap(case.by_loss[one], case.by_loss[other], limit, shares=6)
        for one, other in permutations(case.by_loss, 2)
    ]
    text = ", ".join(f"{loss} {case.accuracy(broken):.1%}" for loss, broken in case.by_loss.items())
    return Finding(together(*(gap.result for gap in gaps)), text, case.n)


@row(
    8,
    "scale of the logits",
    passes="no scale more than {limit} points lower; at most {zero}% of gradients 0",
    means="vanishing gradients",
    decisive=True,
    limit=0.02,
    zero=0.001,
)
def scale(case: Case, limit: float, zero: float) -> Finding:
    """Other scales of the logits lead no further, and gradients do not vanish; 206 g."""
    own = case.pgd_within(COMPARISON_STEPS)
    parts = [f"1: {case.accuracy(own):.1%}"]
    lower = []
    everywhere: set[int] = set()
    for factor in SCALES:
        victim = case.subject.classifier_of(Scaled(case.subject.function, factor))
        broken = case.broken_by("pgd", victim=victim, tag=f" x{factor:g}", steps=COMPARISON_STEPS)
        lower.append(case.gap(broken, own, limit, shares=6 * len(SCALES)).result == "fail")
        everywhere |= broken
        parts.append(f"{factor:g}: {case.accuracy(broken):.1%}")
    # Four comparisons in which either side may win need many images before they can pass. Whether
    # other scales break what stands against all gradients is one, and with two thirds of the error
    # 74 images decide it.
    further = case.further(case.standing & everywhere, limit, shares=3 / 2)
    beyond: Result = "fail" if any(lower) else further.result
    vanished = Gap(_without_gradient(case), None, len(case.correct), zero, shares=6)
    # A precision is no defence, and another one brings the gradients back.
    cause = ", as small numbers are in float16" if case.subject.behaviour.half else ""
    text = (
        f"{', '.join(parts)};"
        f" {vanished.estimate:.1%} of {len(case.correct)} gradients are exactly 0{cause}"
    )
    return Finding(together(vanished.result, beyond), text, case.n)


def _without_gradient(case: Case) -> int:
    """Images whose cross-entropy has gradient 0 in every pixel, there or at a point of the ball."""
    subject = case.subject
    threat = threat_model(subject.norm, case.eps)
    itself = subject.classifier_of(subject.function)  # and no copy compiled for whole batches
    rows = torch.tensor(sorted(case.correct), dtype=torch.int64)
    count = 0
    for part in torch.split(rows, subject.compute.width):
        if not len(part):
            break  # a classifier need not answer an empty batch
        images = subject.images[part]
        labels = subject.labels[part].to(subject.compute.device)
        seeds = [seed_of(subject.seed, subject.ids[row], "audit") for row in part.tolist()]
        noise = threat.random(keyed_uniform(torch.tensor(seeds), images.shape[1:]))
        none = torch.zeros(len(part), dtype=torch.bool)
        for points in (images, threat.project(images + noise, images)):
            asked = points.to(subject.compute.device).requires_grad_(True)
            # Zero in every pixel at once leaves an attack nothing to go by.
            with torch.enable_grad():  # the caller may have turned gradients off
                gradient = input_gradient(cross_entropy(itself(asked), labels), asked).cpu()
            none |= (gradient == 0).flatten(1).all(1)
        count += int(none.sum())
    return count


@row(
    9,
    "step size",
    passes="ends of the grid at most {limit} points lower",
    means="step size off",
    limit=0.01,
)
def step_size(case: Case, limit: float) -> Finding:
    """Neither the smallest nor the largest step does better than all between; 255 g."""
    found = {
        size: case.broken_by("pgd", steps=COMPARISON_STEPS, step_size=size * case.eps)
        for size in STEP_SIZES
        if size != 1 / 4
    }
    # The step of every other PGD here, so that its run is on record.
    found[1 / 4] = case.pgd_within(COMPARISON_STEPS)
    # A grid whose best size is its end may have a better one beyond.
    inner = max((found[size] for size in STEP_SIZES[1:-1]), key=len)
    ends = (STEP_SIZES[0], STEP_SIZES[-1])
    gaps = [case.gap(found[end], inner, limit, shares=2) for end in ends]
    text = ", ".join(f"{size:g} eps {case.accuracy(found[size]):.1%}" for size in STEP_SIZES)
    return Finding(together(*(gap.result for gap in gaps)), text, case.n)
