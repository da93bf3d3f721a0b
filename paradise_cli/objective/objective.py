"""The one line that training minimises: D + alpha R, or D + alpha R^2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.objective.distortions import Distortion
from paradise_cli.objective.rates import Rate


@dataclass(frozen=True)
class Task:
    """One distortion on one head; `target` is the label column it reads."""

    name: str
    distortion: Distortion
    target: int = 0
    weight: float = 1.0

    def mean(self, output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Mean distortion over the examples it applies to: the labelled ones, or all."""
        labels = labels[:, self.target] if self.distortion.supervised else labels
        values = self.distortion.per_example(output, images, labels)  # [B]
        if not self.distortion.supervised:
            return values.mean()
        return values.sum() / (labels >= 0).sum().clamp(min=1)


class Objective(nn.Module):
    """D + alpha R over a list of views of each image (paper Eq. 6, method.md 2.1).

    The `squared` Lagrangian, D + alpha R^2, has an optimum for each rate also where D falls
    linearly with R, as for labels that are a function of the image (method.md 2.6, Rodriguez Galvez
    et al. 2020). A module because q may have a state of its own, which a checkpoint must hold.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        rate: Rate | None,
        alpha: float,
        lagrangian: Literal["linear", "squared"] = "linear",
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.rate = rate
        self.alpha = alpha
        self.lagrangian = lagrangian

    def forward(
        self, model: nn.Module, views: Sequence[Tensor], labels: Tensor, noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and every term by itself, raw and detached.

        `views` are V batches [B, C, H, W] of the same B images, `labels` [B, T], `noise` [V*B, K].
        The views go through the model as one batch; the rate is taken on each view by itself and
        averaged.
        """
        images = torch.cat(list(views)) if len(views) > 1 else views[0]  # [V*B, C, H, W]
        labels = labels.repeat(len(views), 1)
        posterior, z, outputs = model(images, noise)
        distortions = {t.name: t.mean(outputs[t.name], images, labels) for t in self.tasks}
        distortion = torch.stack([t.weight * distortions[t.name] for t in self.tasks]).sum()
        terms = {f"distortion/{name}": value for name, value in distortions.items()}
        loss = distortion
        if self.rate is not None:
            rate_loss, rate, fit = self._rate(self.rate, model, posterior, z, len(views))
            loss = distortion + self.alpha * self._penalty(rate_loss, rate)
            if fit is not None:
                loss = loss + (fit - fit.detach())  # trains q, whatever alpha, and adds nothing
            terms |= {"rate": rate, "sigma": posterior.sigma.mean()}
        terms |= {"loss": loss, "distortion": distortion, "abs_mu": posterior.mu.abs().mean()}
        return loss, {name: value.detach() for name, value in terms.items()}

    def _penalty(self, loss: Tensor, rate: Tensor) -> Tensor:
        if self.lagrangian == "linear":
            return loss
        # The slope 2R is the logged rate's: the loss has the same mean, but noise that can turn its
        # sign.
        return rate.square() + 2 * rate * (loss - loss.detach())

    @staticmethod
    def _rate(
        rate: Rate, model: nn.Module, posterior: DiagonalGaussian, z: Tensor, views: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Batch means of the rate's loss, of its value and of q's own loss."""
        pseudo = rate.pseudo_inputs
        extra = [] if pseudo is None else [model.encode_settled(pseudo)]  # type: ignore[operator]
        parts = [
            DiagonalGaussian(mu, sigma)
            for mu, sigma in zip(
                posterior.mu.chunk(views), posterior.sigma.chunk(views), strict=True
            )
        ]
        values = [
            rate(part, z_view, *extra) for part, z_view in zip(parts, z.chunk(views), strict=True)
        ]
        if rate.training:
            rate.remember(parts[0])  # a second view would be a second copy of each image
        loss = torch.stack([value.loss.mean() for value in values]).mean()
        fits = [value.fit.mean() for value in values if value.fit is not None]
        fit = torch.stack(fits).mean() if fits else None
        return loss, torch.stack([value.rate.mean() for value in values]).mean(), fit
