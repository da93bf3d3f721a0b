"""What an attack found: one object, and the JSON of it."""

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.search import Found, Sample
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.core.proportions import Proportion, wilson
from paradise_cli.core.units import counted
from paradise_cli.perturbations.threat import TOLERANCE, Threat

CLEAN = "clean"
"""What broke an image that is misclassified as it is."""
CUT_SHORT = ", cut short"
"""The words behind an attack that time ended."""
UPPER_BOUND = "upper bound"
"""The words beside every accuracy under attack that an audit has shown to be too high."""


@dataclass(frozen=True)
class StageRow:
    """One attack: of n images it was made on `attacked`, and broke `broken` of them.

    Its images were made on the classifier itself, or on another, the `source`. `share` is the
    accuracy under it and, where it went on with what stood, under all before it; for an attack
    towards a target, the share of the attacked images, none of which was given it before, that
    reached it. Of one that time has `cut_short` it is that so far, and of one on a sample an
    estimate.
    """

    attack: str
    attacked: int
    broken: int
    share: Proportion
    reaches_target: bool = False
    source: str | None = None
    cut_short: bool = False

    @property
    def name(self) -> str:
        """The attack, and where its images were made."""
        return self.attack + (f" from {self.source}" if self.source else "")

    @property
    def shown(self) -> str:
        """The same, and whether time ended it."""
        return self.name + (CUT_SHORT if self.cut_short else "")


@dataclass(frozen=True)
class Spent:
    """What the call took: seconds, and for each image attacked how many images passed the
    classifier forward, and how many gradients came back, in the `suite` and in the `audit`.

    What was on record before took nothing. Images that only fill a batch count too.
    """

    seconds: float
    suite: tuple[float, float]
    audit: tuple[float, float]


@dataclass(frozen=True)
class Provenance:
    """What the numbers were measured on and with.

    Of `given` images, whose digest with their labels is `images_sha256`, in batches of `width`, by
    this version of PARADISE on this `machine`.
    """

    given: int
    images_sha256: str
    width: int
    paradise: str
    machine: Mapping[str, Any]
    spent: Spent


@dataclass(frozen=True)
class Estimate:
    """What an estimated robust accuracy rests on: the `rows` that the whole suite attacked, drawn
    from the `standing` images that a cheaper one left, of which `left` stood; of those the audit
    broke `broken_otherwise`.

    `in_general` is the share of all images of this kind, with the errors of both choices.
    """

    standing: int
    rows: tuple[int, ...]
    left: int
    broken_otherwise: int
    in_general: Proportion


@dataclass(frozen=True)
class AttackReport:
    """Robust accuracy of a classifier on n images under one threat, and everything it rests on.

    `rows` [n] are the places of the images among those given; all else is in their order.
    `standing` bool [n] says which images are still classified correctly whatever was tried,
    `broken_by` what broke the others, and `adversarial` [n, C, H, W] holds what did (the image
    itself where nothing did), at distances [n] from the images and classified as `predicted` [n].
    `lattice` are the same points as 8-bit images, inside the ball where it holds any, and
    `lattice_accuracy` the accuracy on them. `unfinished` names attacks that the time budget cut
    short: images standing then are only standing so far. A misclassified image counts as broken.
    Where robust accuracy is an `estimate`, images outside its rows stood a cheaper suite alone.
    """

    clean_accuracy: Proportion
    robust_accuracy: Proportion
    interval: str
    stages: tuple[StageRow, ...]
    curve: tuple[tuple[float, Proportion], ...]
    verdict: str
    audit: Audit
    rows: Tensor
    standing: Tensor
    broken_by: tuple[str | None, ...]
    adversarial: Tensor
    distance: Tensor
    predicted: Tensor
    lattice: Tensor
    lattice_accuracy: Proportion
    unfinished: tuple[str, ...]
    notes: tuple[str, ...]
    settings: AttackSettings
    provenance: Provenance
    estimate: Estimate | None = None

    def __repr__(self) -> str:
        # The number never comes without what is known of its worth.
        robust = f"robust accuracy {self.robust_accuracy.value:.1%}"
        bound = f", {self.bound}," if self.bound else ""
        clean = f"clean {self.clean_accuracy.value:.1%}"
        n = counted(len(self.rows), "image")
        return f"AttackReport({robust}{bound} of {n}, {clean}; {self.audit.summary})"

    @property
    def lowest_transfer(self) -> StageRow | None:
        """Of the attacks made on other classifiers the one that left least: the minimum of means.

        The robust accuracy, the worst case of each image over all attacks, is never above it.
        """
        transferred = [stage for stage in self.stages if stage.source]
        return min(transferred, key=lambda stage: stage.share.value, default=None)

    @property
    def bound(self) -> str | None:
        """The words that every accuracy under attack must carry, if the verdict asks for any."""
        return UPPER_BOUND if self.verdict == "obfuscated" else None

    def settings_document(self) -> dict[str, Any]:
        """What was asked for and what it was measured with, as JSON values."""
        settings, provenance, spent = self.settings, self.provenance, self.provenance.spent
        # One flat object, as documents have had it from the first.
        return {
            "eps": settings.eps,
            "eps_text": settings.eps_text,
            "norm": settings.norm,
            "suite": settings.suite,
            "seed": settings.seed,
            "given": provenance.given,
            "images_sha256": provenance.images_sha256,
            "width": provenance.width,
            "precision": settings.precision,
            "compiled": settings.compiled,
            "paradise": provenance.paradise,
            "machine": dict(provenance.machine),
            "ci": settings.ci,
            "budget": settings.budget,
            "audited": settings.audited,
            "seconds": spent.seconds,
            "passes": {
                "suite": {"forward": spent.suite[0], "back": spent.suite[1]},
                "audit": {"forward": spent.audit[0], "back": spent.audit[1]},
            },
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON values."""
        # The verdict within, for whoever takes the one number and leaves the rest.
        lowest = self.lowest_transfer
        robust = {**self._under_attack(self.robust_accuracy), "verdict": self.verdict}
        return {
            "robust_accuracy": robust,
            "clean_accuracy": asdict(self.clean_accuracy),
            "n": len(self.rows),
            "interval": self.interval,
            "estimate": None if self.estimate is None else asdict(self.estimate),
            "verdict": self.verdict,
            "gradient_masking": self.audit.summary,
            "attacks": [self._stage(stage) for stage in self.stages],
            "lowest_transfer": None if lowest is None else self._stage(lowest),
            "curve": [
                {"eps": eps, "accuracy": self._under_attack(share)} for eps, share in self.curve
            ],
            "lattice_accuracy": self._under_attack(self.lattice_accuracy),
            "audit": self.audit.to_json(),
            "unfinished": list(self.unfinished),
            "notes": list(self.notes),
            "settings": self.settings_document(),
            "images": self._images(),
        }

    def _under_attack(self, share: Proportion) -> dict[str, Any]:
        """An accuracy under attack; whoever reads the number reads what it is beside it."""
        return {**asdict(share), "bound": self.bound}

    def _stage(self, stage: StageRow) -> dict[str, Any]:
        found = asdict(stage)
        # Documents have called the images that an attack broke `fell` from the first.
        found["fell"] = found.pop("broken")
        # How often a target was reached can only be higher than seen, not lower.
        if not stage.reaches_target:
            found["share"] = self._under_attack(stage.share)
        return found

    def _images(self) -> list[dict[str, Any]]:
        columns = {
            "row": self.rows.tolist(),
            "standing": self.standing.tolist(),
            "broken_by": self.broken_by,
            "distance": self.distance.tolist(),
            "predicted": self.predicted.tolist(),
        }
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]


def stage_rows(found: Found) -> tuple[StageRow, ...]:
    """The stages of the suite."""
    rows, correct, n = [], found.correct, found.n
    broken = set(found.carried)
    for result in found.results:
        # Where a target is to be reached, misclassified images are attacked too.
        broken |= result.broken.keys() & correct
        reached = result.stage.goal == "reach"
        count, attacked = len(result.broken), len(result.attacked)
        if reached:
            # Of no image nothing is known: the interval says so.
            share = Proportion(count / max(attacked, 1), *wilson(count, attacked))
        elif found.sample is not None and {*result.attacked} <= {*found.sample.rows}:
            share = _of_sample(found.sample, broken, n)
        else:
            left = len(correct) - (len(broken) if result.cumulative else count)
            share = Proportion.of(left, n)
        shown = (result.stage.name, attacked, count, share)
        rows.append(StageRow(*shown, reached, result.source, result.cut_short))
    return tuple(rows)


def _of_sample(sample: Sample, broken: Set[int], n: int) -> Proportion:
    """What stands of n images where these of the sample are broken, and as many elsewhere."""
    found = sample.scaled(sum(row not in broken for row in sample.rows))
    return Proportion(found.value / n, found.low / n, found.high / n)


def on_lattice(points: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """The points [N, C, H, W] rounded to multiples of 1/255, inside the ball where it holds any.

    Where the nearest multiple leaves the ball it is the next one towards the image, and where that
    passes the image or still leaves the ball the one nearest to the image.
    """
    # To the nearest first, as any program would save the image.
    nearest, home = (points * 255).round() / 255, (images * 255).round() / 255
    above = points > images
    inner = torch.where(above, (points * 255).floor(), (points * 255).ceil()) / 255
    inner = torch.where(torch.where(above, inner < images, inner > images), home, inner)
    found = torch.where(_inside(inner, images, threat), inner, home)
    return torch.where(_inside(nearest, images, threat), nearest, found)


def _inside(x: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """Whether each x [N, C, H, W] lies in the ball, [N, 1, 1, 1], or each pixel where each stays or
    leaves on its own.
    """
    if threat.name == "linf":
        return (x - images).abs() <= threat.eps + TOLERANCE
    return threat.contains(x, images).view(-1, 1, 1, 1)
