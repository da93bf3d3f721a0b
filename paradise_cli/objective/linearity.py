"""Local linearity: the loss should be its own tangent around an image (LLR, method.md 3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.core.shares import Share


@dataclass(frozen=True)
class Linearity:
    """gamma |l(x') - l(x) - (x' - x) dl(x)| + slope |(x' - x) dl(x)|, of two views x and x'.

    Second order: its gradient goes through that of the loss. gamma and slope rise linearly over the
    first `warmup_steps` steps.
    """

    between: tuple[int, int]
    gamma: float
    slope: float
    warmup_steps: int = 0

    def share(self, step: int) -> float:
        """Which share of gamma and slope counts at this step, counted from 0."""
        return min(1.0, (step + 1) / max(1, self.warmup_steps))

    def terms(
        self, losses: Sequence[Tensor], images: Tensor, views: Sequence[Tensor], share: Share
    ) -> dict[str, Tensor]:
        """Shares of the batch means of the two terms.

        `losses` are [B] for each view; `images`, [V*B, C, H, W], are what they were computed from.
        """
        first, second = self.between
        # Of all views at once, as they went through the network together.
        (gradients,) = torch.autograd.grad(losses[first].sum(), [images], create_graph=True)
        gradient = gradients.chunk(len(views))[first]
        rise = ((views[second] - views[first]) * gradient).flatten(1).sum(1)  # [B]
        violation = losses[second] - losses[first] - rise
        return {"linearity": share.mean(violation.abs()), "slope": share.mean(rise.abs())}
