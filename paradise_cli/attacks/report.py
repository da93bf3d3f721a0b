"""What an attack found: one object, and the JSON of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.session.suite import StageResult
from paradise_cli.core.proportions import Proportion
from paradise_cli.perturbations.threat import TOLERANCE, Threat

CLEAN = "clean"
"""What broke an image that is misclassified as it is."""


@dataclass(frozen=True)
class StageRow:
    """One attack: of n images it was made on `attacked`, and broke `broken` of them.

    Its images were made on the classifier itself, or on another, the `source`. `share` is the
    accuracy under it and, where it went on with survivors, under all before it; for an attack
    towards a target, the share of images on which it was reached.
    """

    attack: str
    attacked: int
    broken: int
    share: Proportion
    reaches_target: bool = False
    source: str | None = None

    @property
    def name(self) -> str:
        """The attack, and where its images were made."""
        return self.attack + (f" from {self.source}" if self.source else "")

    def to_json(self) -> dict[str, Any]:
        """As JSON values; documents have called the images it broke `fell` from the first."""
        found = asdict(self)
        return {"fell" if key == "broken" else key: value for key, value in found.items()}


@dataclass(frozen=True)
class AttackReport:
    """Robust accuracy of a classifier on n images under one threat, and everything it rests on.

    `rows` [n] are the places of the images among those given; all else is in their order.
    `standing` bool [n] says which images are classified rightly whatever was tried, `broken_by`
    what broke the others, and `adversarial` [n, C, H, W] holds what did (the image itself where
    nothing did), at distances [n] from the images. `lattice` are the same points as 8-bit images,
    inside the ball, `lattice_accuracy` the accuracy on them. `unfinished` names attacks that the
    time budget cut short: images standing then are only standing so far. A misclassified image
    counts as broken.
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
    lattice: Tensor
    lattice_accuracy: Proportion
    unfinished: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"AttackReport(robust accuracy {self.robust_accuracy.value:.1%} of"
            f" {len(self.rows):,} images, clean {self.clean_accuracy.value:.1%}; gradient masking:"
            f" {self.verdict})"
        )

    @property
    def lowest_transfer(self) -> StageRow | None:
        """Of the attacks made on other classifiers the one that left least: the minimum of means.

        The robust accuracy, the worst case of each image over all attacks, is never above it.
        """
        transferred = [stage for stage in self.stages if stage.source]
        return min(transferred, key=lambda stage: stage.share.value, default=None)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON values."""
        lowest = self.lowest_transfer
        return {
            "robust_accuracy": asdict(self.robust_accuracy),
            "clean_accuracy": asdict(self.clean_accuracy),
            "n": len(self.rows),
            "interval": self.interval,
            "verdict": self.verdict,
            "attacks": [stage.to_json() for stage in self.stages],
            "lowest_transfer": None if lowest is None else lowest.to_json(),
            "curve": [{"eps": eps, "accuracy": asdict(share)} for eps, share in self.curve],
            "lattice_accuracy": asdict(self.lattice_accuracy),
            "audit": self.audit.to_json(),
            "unfinished": list(self.unfinished),
            "notes": list(self.notes),
            "settings": self.settings,
            "images": [
                {"row": row, "standing": stands, "broken_by": broken, "distance": distance}
                for row, stands, broken, distance in zip(
                    self.rows.tolist(),
                    self.standing.tolist(),
                    self.broken_by,
                    self.distance.tolist(),
                    strict=True,
                )
            ],
        }


def stage_rows(
    results: Sequence[StageResult], correct: int, n: int, independent: bool, carried: int
) -> tuple[StageRow, ...]:
    """The stages of a suite on n images.

    `correct` of these are classified correctly, and `carried` of these were broken at a smaller
    eps.
    """
    rows = []
    broken = carried
    for result in results:
        count = len(result.broken)
        broken = count if independent else broken + count
        reaches = result.stage.goal == "reach"
        # An attack towards a target reports on how many images it got there.
        share = Proportion.of(count if reaches else correct - broken, n)
        attacked = len(result.attacked)
        rows.append(StageRow(result.stage.name, attacked, count, share, reaches, result.source))
    return tuple(rows)


def on_lattice(points: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """The points [N, C, H, W] rounded to multiples of 1/255, towards the image where that leaves
    the ball.
    """
    nearest = (points * 255).round() / 255
    inner = torch.where(nearest > images, (points * 255).floor() / 255, (points * 255).ceil() / 255)
    inside = threat.contains(nearest, images).view(-1, 1, 1, 1)
    if threat.name == "linf":  # each pixel stays or leaves on its own
        inside = (nearest - images).abs() <= threat.eps + TOLERANCE
    return torch.where(inside, nearest, inner)
