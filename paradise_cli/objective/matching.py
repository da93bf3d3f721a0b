"""Posterior matching: similar inputs should have similar posteriors (paper Eq. 7, 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from paradise_cli.information.distances import Distance
from paradise_cli.information.gaussian import DiagonalGaussian


@dataclass(frozen=True)
class Matching:
    """gamma E D(., .) between two views of each image, of their posteriors or of a head's outputs.

    `partner: other` compares each image with its neighbour in the batch instead (clean logit
    pairing, method.md 3.5). gamma rises linearly over the first `warmup_steps` steps.
    """

    between: tuple[int, int]
    distance: Distance
    gamma: float
    warmup_steps: int = 0
    other: bool = False

    def weight(self, step: int) -> float:
        """gamma at this step, counted from 0."""
        return self.gamma * min(1.0, (step + 1) / max(1, self.warmup_steps))

    def terms(
        self, posteriors: Sequence[DiagonalGaussian], outputs: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Batch means of the distance as it is trained and of its scale-free form.

        Both have one entry a view; `outputs` are logits, empty for a model that has none.
        """
        seen = posteriors if self.distance.of == "posterior" else outputs
        first, second = (seen[view] for view in self.between)
        if self.other:
            second = _rolled(second)
        return {
            "matching": self.distance.per_example(first, second).mean(),
            # A small distance of small latents says nothing: they can shrink (method.md 3.2).
            "matching_scale_free": self.distance.scale_free(first, second).detach().mean(),
        }


def _rolled(seen: DiagonalGaussian | Tensor) -> DiagonalGaussian | Tensor:
    """Each image's entry replaced by that of the image after it in the batch."""
    if isinstance(seen, DiagonalGaussian):
        return DiagonalGaussian(seen.mu.roll(1, 0), seen.sigma.roll(1, 0))
    return seen.roll(1, 0)
