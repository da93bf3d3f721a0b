"""The fourteen rows of the audit (method.md 5.5): each measures one way in which robustness may be
a mirage.

Thresholds are those of method.md; none was chosen for one classifier. What a row costs at most, in
queries with a gradient (g) or without (f), for each image that stands against it; images that fall
cost few:

| row | attacks | cost |
|---|---|---|
| all | PGD-100 on cross-entropy | 101 g |
| 1 | FGSM | 2 g |
| 2, 10 | Square | 1,000 f |
| 3 | PGD-50 from the image at two large eps | 102 g |
| 4 | PGD-20 at eight eps | 147 g |
| 5 | random search, uniform and at the corners | 2,000 f |
| 6 | PGD-200; PGD-100 twice | 403 g |
| 7 | PGD-100 on the margin and on DLR | 202 g |
| 8 | PGD-50 at four scales; the gradient at two points | 206 g |
| 9 | PGD-50 at five step sizes | 255 g |
| 10 | PGD-50 on a smooth copy, averaged over 4 points; from where Square ended | 255 g and 204 f |
| 11 | PGD-20 with noise held, on the mean (if answers are random) | 42 g |
| 12 | four latent attacks of 50 steps (for an encoder) | 255 g |
| 13, 14 | PGD-100 at one eps or two; Multi-Targeted 100 (for siblings) | 202 g; 909 g |

In all, without siblings, 1,700 to 2,000 g and 3,200 f. Of a classifier that answers at random each
g is 20.
"""

from collections.abc import Callable
from itertools import pairwise, permutations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from paradise_cli.attacks.audit.context import BASE_STEPS, CURVE_STEPS, Case
from paradise_cli.attacks.audit.evidence import Gap, Result, together
from paradise_cli.attacks.engine.classifier import ThroughLatents
from paradise_cli.attacks.engine.surrogate import HeldNoise, MeanPath, Scaled, Smoothed
from paradise_cli.attacks.protocol.lanes import Latent, input_gradient
from paradise_cli.core.randomness import keyed_uniform, seed_of
from paradise_cli.perturbations.threat import threat_model

Measured = tuple[Result, str, int]
"""The result, what was measured in words, and on how many images."""

SCALES, SIZES = (1e-3, 1e-1, 1e1, 1e3), (1 / 20, 1 / 10, 1 / 4, 1 / 2, 1, 2)
SHORT = 50


def one_step(case: Case) -> Measured:
    """Row 1."""
    single, iterated = case.broken("fgsm"), frozenset(case.base)
    text = f"PGD-{BASE_STEPS} {case.accuracy(iterated):.1%}, FGSM {case.accuracy(single):.1%}"
    return case.gap(single, iterated, 0.0).result, text, case.n


def black_box(case: Case) -> Measured:
    """Row 2: what the suite felled by a black box alone, or if that is nothing, Square."""
    only, how = case.standing & case.black.keys(), "by the black-box attacks of the suite"
    if not only:
        only = case.square
        how = f"by Square with {case.queries:,} queries"
    text = f"{len(only)} of {case.n} images fell only {how}"
    return case.further(only, 0.002).result, text, case.n


def unbounded(case: Case) -> Measured:
    """Row 3: an eps within which every image can be made grey.

    How far 64/255 leads depends on the kind of image: it is reported, and decides nothing.
    """
    parts = []
    for eps in (64 / 255, case.grey) if case.subject.norm == "linf" else (case.grey,):
        broken = case.broken("pgd", eps=eps, steps=SHORT, start="image")
        parts.append(f"{case.accuracy(broken):.1%} at {eps:.3g}")
    labels = case.subject.labels[list(case.rows)]
    common = float(labels.bincount().max() / case.n) if case.n else 1.0
    chance = max(common, 1 / case.subject.behaviour.classes)
    stand = Gap(len(case.right - broken), None, case.n, chance)
    return stand.result, f"{', '.join(parts)}; chance is {chance:.1%}", case.n


def falling(case: Case) -> Measured:
    """Row 4: no rise anywhere, and at the end less than half of what stood at the start."""
    points = case.curve
    rises = [
        case.gap(near, far, 0.0, shares=len(points) - 1) for (_, near), (_, far) in pairwise(points)
    ]
    last = points[-1][1]
    flat = Gap(len(case.right - last), None, case.n, len(case.right) / max(1, case.n) / 2)
    text = ", ".join(f"{case.accuracy(broken):.1%} at {eps:.3g}" for eps, broken in points)
    worst = max(rise.estimate for rise in rises)
    return (
        together(flat.result, *(rise.result for rise in rises)),
        f"{text}; largest rise {worst:.1%}",
        case.n,
    )


def random_search(case: Case) -> Measured:
    """Row 5."""
    found = [
        case.broken("random_search", rows=case.standing, draws=case.queries, kind=kind)
        for kind in ("uniform", "corner")
    ]
    uniform, corner = found
    text = (
        f"{len(uniform)} of {case.n} images fell only to {case.queries:,} uniform draws,"
        f" {len(corner)} only to as many corners"
    )
    return case.further(uniform | corner, 0.005).result, text, case.n


def convergence(case: Case) -> Measured:
    """Row 6: whether twice the steps or twice the restarts fell images that stood against
    everything.
    """
    longer = case.broken("pgd", rows=case.standing, steps=2 * BASE_STEPS)
    again = case.broken("pgd", rows=case.standing, steps=BASE_STEPS, restarts=2)
    gaps = [case.further(longer, 0.01), case.further(again, 0.01)]
    text = (
        f"of {case.n} images twice the steps felled {len(longer)} more, twice the restarts"
        f" {len(again)}"
    )
    return together(*(gap.result for gap in gaps)), text, case.n


def losses(case: Case) -> Measured:
    """Row 7: the largest difference between two of three losses."""
    gaps = [
        case.gap(case.losses[one], case.losses[other], 0.03, shares=6)
        for one, other in permutations(case.losses, 2)
    ]
    text = ", ".join(f"{loss} {case.accuracy(broken):.1%}" for loss, broken in case.losses.items())
    return together(*(gap.result for gap in gaps)), text, case.n


def scale(case: Case) -> Measured:
    """Row 8: whether other scales of the logits lead further, and how many gradients are 0 at their
    own.
    """
    own, parts, results = case.base_within(SHORT), [], []
    parts.append(f"1: {case.accuracy(own):.1%}")
    for factor in SCALES:
        victim = case.subject.classifier_of(Scaled(case.subject.function, factor))
        broken = case.broken("pgd", victim=victim, tag=f" x{factor:g}", steps=SHORT)
        results.append(case.gap(broken, own, 0.02, shares=len(SCALES)).result)
        parts.append(f"{factor:g}: {case.accuracy(broken):.1%}")
    zero = _without_gradient(case)
    lost = Gap(zero, None, len(case.right), 0.001)
    text = f"{', '.join(parts)}; {lost.estimate:.1%} of {len(case.right)} gradients are exactly 0"
    return together(lost.result, *results), text, case.n


def _without_gradient(case: Case) -> int:
    """Images whose cross-entropy has gradient 0 in every pixel, at the image or at a point of the
    ball.
    """
    subject, rows = case.subject, torch.tensor(sorted(case.right), dtype=torch.int64)
    threat, count = threat_model(subject.norm, case.eps), 0
    itself = subject.classifier_of(subject.function)  # and no copy compiled for whole batches
    for part in torch.split(rows, subject.compute.width):
        images, labels = subject.images[part], subject.labels[part].to(subject.compute.device)
        seeds = [seed_of(subject.seed, subject.ids[row], "audit") for row in part.tolist()]
        keys = torch.tensor(seeds, dtype=torch.int64)
        noise = threat.random(keyed_uniform(keys, images.shape[1:]))
        none = torch.zeros(len(part), dtype=torch.bool)
        for points in (images, threat.project(images + noise, images)):
            asked = points.to(subject.compute.device).requires_grad_(True)
            with torch.enable_grad():  # the caller may have turned gradients off
                gradient = input_gradient(cross_entropy(itself(asked), labels), asked).cpu()
            none |= (gradient == 0).flatten(1).all(1)
        count += int(none.sum())
    return count


def step_size(case: Case) -> Measured:
    """Row 9: whether the first or the last of the sizes does better than all between."""
    found = {
        size: case.broken("pgd", steps=SHORT, step_size=size * case.eps)
        for size in SIZES
        if size != 1 / 4
    }
    found[1 / 4] = case.base_within(SHORT)
    inner = max((found[size] for size in SIZES[1:-1]), key=len)
    gaps = [case.gap(found[end], inner, 0.01, shares=2) for end in (SIZES[0], SIZES[-1])]
    text = ", ".join(f"{size:g} eps {case.accuracy(found[size]):.1%}" for size in SIZES)
    return together(*(gap.result for gap in gaps)), text, case.n


def surrogate(case: Case) -> Measured:
    """Row 10: gradients of a smooth copy, averaged over noise, and its own from where Square
    ended.
    """
    victim = case.subject.classifier_of(Smoothed(case.subject.function))
    smooth = case.broken("noisy_pgd", rows=case.standing, victim=victim, tag=" smooth", steps=SHORT)
    ends = case.square_ends
    warm = case.broken(
        "pgd", rows=frozenset(ends), begin=ends, tag=" from Square", steps=SHORT, start="image"
    )
    text = (
        f"smooth gradients felled {len(smooth)} more of {case.n} images,"
        f" gradients from where Square ended {len(warm)}"
    )
    return case.further(smooth | warm, 0.01).result, text, case.n


def random_answers(case: Case) -> Measured:
    """Row 11: gradients averaged over draws against those of one draw, and of the mean of the
    posterior.
    """
    subject = case.subject
    if not subject.behaviour.random:
        return "not applicable", "the classifier gives the same answer twice", 0
    found = {"averaged": case.base_within(CURVE_STEPS)}
    ways = {"one draw": subject.classifier_of(HeldNoise(subject.function, subject.seed))}
    if isinstance(subject.function, ThroughLatents):
        ways["posterior mean"] = subject.classifier_of(MeanPath(subject.function))
    for way, victim in ways.items():
        found[way] = case.broken("pgd", victim=victim, tag=f" {way}", steps=CURVE_STEPS)
    gaps = [
        case.gap(one, other, 0.02, shares=2 * len(ways))
        for way in ways
        for one, other in permutations((found["averaged"], found[way]))
    ]
    text = ", ".join(f"{way} {case.accuracy(broken):.1%}" for way, broken in found.items())
    return together(*(gap.result for gap in gaps)), text, case.n


def latent(case: Case) -> Measured:
    """Row 12."""
    if case.subject.classifier.latent is None:
        return "not applicable", "no encoder: nothing lies between pixels and logits", 0
    names: tuple[str, ...] = ("latent_mean", "latent_sigma", "latent_shift")
    if not _stochastic(case, case.subject.classifier.latent):
        names = names[:1]  # without a width there is nothing else to shift
    found = {name: case.broken(name, rows=case.standing, steps=SHORT) for name in names}
    found["latent_towards"] = case.broken(
        "latent_towards", rows=case.standing, tag=" of the images", steps=SHORT, targets=2,
        means=_class_means(case, case.subject.classifier.latent),
    )  # fmt: skip
    text = ", ".join(f"{name} felled {len(broken)}" for name, broken in found.items())
    gap = case.further(frozenset().union(*found.values()), 0.01)
    return gap.result, f"{text} more of {case.n} images", case.n


def _stochastic(case: Case, encoder: Latent) -> bool:
    with torch.no_grad():
        image = case.subject.images[list(case.rows)[:1]].to(case.subject.compute.device)
        return bool((encoder.encode(image).sigma > 0).all())


def _class_means(case: Case, encoder: Latent) -> Tensor:
    """The mean of mu over the images of each class, [classes, K]; over all where a class has
    none.
    """
    subject, rows = case.subject, list(case.rows)
    with torch.no_grad():
        parts = torch.split(subject.images[rows], subject.compute.width)
        mu = torch.cat([encoder.encode(part.to(subject.compute.device)).mu for part in parts])
    member = one_hot(subject.labels[rows], subject.behaviour.classes).to(mu)  # [n, classes]
    count = member.sum(0)[:, None]
    return torch.where(count > 0, member.T @ mu / count.clamp(min=1), mu.mean(0))


def ablation(case: Case) -> Measured:
    """Row 13. At a small eps an honest base stands too; attacks that fail in the grey are
    broken.
    """
    if case.siblings.base is None:
        return "not applicable", "no network without the defence was given", 0
    base = case.on(case.siblings.base, case.eps)
    near = frozenset(base.base)
    text = f"PGD-{BASE_STEPS} {base.accuracy(near):.1%} on the base network"
    result = Gap(len(base.right - near), None, base.n, 0.01).result
    if result == "fail":
        far = base.broken("pgd", eps=base.grey, steps=BASE_STEPS)
        text += f", {base.accuracy(far):.1%} at {base.grey:.3g}"
        if Gap(len(base.right - far), None, base.n, 0.01).result != "fail":
            result, text = "inconclusive", f"{text}: at the audited eps the base itself stands"
    return result, text, base.n


def calibration(case: Case) -> Measured:
    """Row 14: image by image, so that few images show a difference."""
    reference, known = case.siblings.reference, case.siblings.known
    if reference is None:
        return "not applicable", "no network of known robustness was given", 0
    other = case.on(reference, case.siblings.reference_eps)
    broken = other.broken("multi_targeted", steps=100, restarts=1)
    fell = broken | (frozenset(other.rows) - other.right)
    gaps = [other.gap(one, less, 0.01, shares=2) for one, less in permutations((fell, known))]
    text = (
        f"Multi-Targeted leaves {other.accuracy(fell):.1%}, known"
        f" {1 - len(known) / max(1, other.n):.1%}:"
        f" {len(known - fell)} images missed, {len(fell - known)} not known to fall"
    )
    return together(*(gap.result for gap in gaps)), text, other.n


Row = tuple[str, str, str, Callable[[Case], Measured]]
ROWS: dict[int, Row] = {
    1: ("iterated against one step", "PGD leaves no more than FGSM", "masked gradients", one_step),
    2: (
        "black box against gradients",
        "at most 0.2% fall only to a black box",
        "masked gradients",
        black_box,
    ),
    3: ("unbounded", "at most chance where all images can be grey", "masked gradients", unbounded),
    4: (
        "accuracy against eps",
        "no rise, and less than half at the end",
        "masked gradients",
        falling,
    ),
    5: (
        "random search",
        "at most 0.5% fall only to random points",
        "useless gradients",
        random_search,
    ),
    6: (
        "convergence",
        "twice the effort fells at most 1 point more",
        "attack too weak",
        convergence,
    ),
    7: ("loss", "losses at most 3 points apart", "saturated softmax", losses),
    8: (
        "scale of the logits",
        "no scale more than 2 points lower; at most 0.1% of gradients 0",
        "vanishing gradients",
        scale,
    ),
    9: ("step size", "ends of the grid at most 1 point lower", "step size off", step_size),
    10: ("smooth gradients", "at most 1 point more falls", "shattered gradients", surrogate),
    11: ("random answers", "at most 2 points apart", "randomness hides gradients", random_answers),
    12: ("latent", "at most 1 point more falls", "logits deflect attacks", latent),
    13: (
        "ablation",
        "at most 1% of a base network stands, here or in grey",
        "attacks broken",
        ablation,
    ),
    14: (
        "calibration",
        "at most 1 point from what is known to fall",
        "attacks broken",
        calibration,
    ),
}
