"""Posterior matching: similar inputs should have similar posteriors (paper Eq. 7, 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from paradise_cli.core.shares import Share
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
        self, posteriors: Sequence[DiagonalGaussian], outputs: Sequence[Tensor], share: Share
    ) -> dict[str, Tensor]:
        """Shares of the batch means of the distance as it is trained and of its scale-free form.

        Both have one entry a view; `outputs` are logits, empty for a model that has none.
        """
        seen = posteriors if self.distance.of == "posterior" else outputs
        # Of all processes: neighbours and scales are those of the whole batch.
        first, second = (_gathered(seen[view], share) for view in self.between)
        if self.other:
            second = _rolled(second)
        apart = self.distance.per_example(first, second)[share.rows]
        scale_free = self.distance.scale_free(first, second).detach()[share.rows]
        return {
            "matching": share.mean(apart),
            # A small distance of small latents says nothing: they can shrink (method.md 3.2).
            "matching_scale_free": share.mean(scale_free),
        }


def _gathered(seen: DiagonalGaussian | Tensor, share: Share) -> DiagonalGaussian | Tensor:
    """The entries of the whole batch."""
    if isinstance(seen, DiagonalGaussian):
        return DiagonalGaussian(*share.gathered(*seen))
    return share.gathered(seen)[0]


def _rolled(seen: DiagonalGaussian | Tensor) -> DiagonalGaussian | Tensor:
    """Each image's entry replaced by that of the image after it in the batch."""
    if isinstance(seen, DiagonalGaussian):
        return DiagonalGaussian(seen.mu.roll(1, 0), seen.sigma.roll(1, 0))
    return seen.roll(1, 0)
