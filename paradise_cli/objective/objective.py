"""The one line that training minimises: D + alpha R + gamma M, or with R^2 for R."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paradise_cli.core.errors import UsageError
from paradise_cli.core.shares import Share
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.objective.distortions import Distortion
from paradise_cli.objective.linearity import Linearity
from paradise_cli.objective.matching import Matching
from paradise_cli.objective.rates import Rate

_WARM = 2**31  # a step at which every warm-up is over


@dataclass(frozen=True)
class Task:
    """One distortion on one head; `target` is the label column it reads.

    `views` says on which views of an image it is taken; None: on all of them.
    """

    name: str
    distortion: Distortion
    target: int = 0
    weight: float = 1.0
    views: tuple[int, ...] | None = None

    def values(self, output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """The distortion of each example, [B]; 0 for an unlabelled one where labels are read."""
        values = self.distortion.per_example(output, images, self._column(labels))
        return _one_each(values, len(output), f"distortion {self.name}")

    def over_views(
        self, outputs: Sequence[Tensor], views: Sequence[Tensor], labels: Tensor, share: Share
    ) -> Tensor:
        """The mean over this task's views of their mean distortions, and over both directions
        where it lies between two; this process's share of it.
        """
        seen = range(len(views)) if self.views is None else self.views
        if self.distortion.between:
            outputs = share.gathered(*outputs)
            sides = zip(seen, reversed(seen), strict=True)
            values = [self.values(outputs[v], outputs[other], labels) for v, other in sides]
            return torch.stack([share.mean(each[share.rows]) for each in values]).mean()
        values = [self.values(outputs[v], views[v], labels) for v in seen]
        return torch.stack([self._mean(each, labels, share) for each in values]).mean()

    def _mean(self, values: Tensor, labels: Tensor, share: Share) -> Tensor:
        """Mean over the examples that it applies to: the labelled ones, or all."""
        if not self.distortion.supervised:
            return share.mean(values)
        return values.sum() / share.summed((self._column(labels) >= 0).sum()).clamp(min=1)

    def _column(self, labels: Tensor) -> Tensor:
        return labels[:, self.target] if self.distortion.supervised else labels


class Objective(nn.Module):
    """D + alpha R + gamma M over a list of views of each image (paper Eq. 6, 9, method.md 2.1).

    The `squared` Lagrangian, D + alpha R^2, has an optimum for each rate also where D falls
    linearly with R, as for labels that are a function of the image (method.md 2.6, Rodriguez Galvez
    et al. 2020). M compares two views (method.md 3.5). A module because q may have a state of its
    own, which a checkpoint must hold.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        rate: Rate | None,
        alpha: float,
        lagrangian: Literal["linear", "squared"] = "linear",
        matching: Matching | None = None,
        linearity: Linearity | None = None,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.rate = rate
        self.alpha = alpha
        self.lagrangian = lagrangian
        self.matching = matching
        self.linearity = linearity

    @property
    def judged(self) -> Task | None:
        """The first task that reads labels: by its answers a model is judged."""
        return next((task for task in self.tasks if task.distortion.supervised), None)

    def warm_up(self, step: int) -> Tensor | None:
        """gamma of the matching and the share of the linearity's weights at this step, [2].

        None where nothing compares two views: most trainings then carry nothing to the device.
        """
        if self.matching is None and self.linearity is None:
            return None
        gamma = self.matching.weight(step) if self.matching else 0.0
        share = self.linearity.share(step) if self.linearity else 0.0
        return torch.tensor([gamma, share])

    def forward(
        self,
        model: nn.Module,
        views: Sequence[Tensor],
        labels: Tensor,
        noise: Tensor,
        warm_up: Tensor | None = None,
        share: Share | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and every term by itself, raw and detached.

        `views` are V batches [B, C, H, W] of the same B images, `labels` [B, T], `noise` [V*B, K].
        The views go through the model as one batch, whose statistics batch normalisation uses; the
        rate is taken on each view by itself and averaged. `warm_up` is the method's, a tensor so
        that a compiled objective need not be compiled again; without it all weights are full. Of a
        batch that several processes have a `share` of each, B are the own rows: the loss is this
        process's share of that of the whole batch, whose terms all get.
        """
        share = share or Share(len(labels))
        images = torch.cat(list(views)) if len(views) > 1 else views[0]  # [V*B, C, H, W]
        if self.linearity is not None:
            images = images.detach().requires_grad_()
        posterior, z, outputs = model(images, noise)
        posteriors = _per_view(posterior, len(views))
        seen = {name: output.chunk(len(views)) for name, output in outputs.items()}
        distortions = {t.name: t.over_views(seen[t.name], views, labels, share) for t in self.tasks}
        distortion = torch.stack([t.weight * distortions[t.name] for t in self.tasks]).sum()
        terms = {f"distortion/{name}": value for name, value in distortions.items()}
        loss = distortion
        if self.rate is not None:
            rate_loss, rate, fit = self._rate(self.rate, model, posteriors, z, share)
            loss = distortion + self.alpha * self._penalty(rate_loss, rate, share)
            if fit is not None:
                loss = loss + (fit - fit.detach())  # trains q, whatever alpha, and adds nothing
            terms |= {"rate": rate, "sigma": share.mean(posterior.sigma)}
        weights = self.warm_up(_WARM) if warm_up is None else warm_up
        # Not even a zero is added where nothing compares two views: torch.compile removes such a
        # sum, and then the loss comes back without a gradient (docs/pitfalls.md).
        if weights is not None:
            penalty, found = self._compared(posteriors, seen, images, views, labels, weights, share)
            loss = loss + penalty
            terms |= found
        abs_mu = share.mean(posterior.mu.abs())
        terms |= {"loss": loss, "distortion": distortion, "abs_mu": abs_mu}
        return loss, _totals(terms, share)

    def _compared(
        self,
        posteriors: Sequence[Gaussian],
        outputs: Mapping[str, Sequence[Tensor]],
        images: Tensor,
        views: Sequence[Tensor],
        labels: Tensor,
        weights: Tensor,
        share: Share,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What compares two views, weighted by `warm_up` and summed, and its raw terms."""
        penalties: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        matching = self.matching
        linearity = self.linearity
        gamma, warm = weights
        if matching is not None:
            judged = self.judged
            # Of full posteriors nothing is matched (recipe/conflicts.py): what is left is asked for
            # by its form alone.
            apart = [each.marginals() for each in posteriors]
            terms |= matching.terms(apart, outputs[judged.name] if judged else [], share)
            penalties.append(gamma * terms["matching"])
        if linearity is not None:
            task = self.tasks[0]  # the first decides, as in the choice of the best weights
            losses = [
                task.values(output, view, labels)
                for output, view in zip(outputs[task.name], views, strict=True)
            ]
            terms |= linearity.terms(losses, images, views, share)
            weighted = linearity.gamma * terms["linearity"] + linearity.slope * terms["slope"]
            penalties.append(warm * weighted)
        return torch.stack(penalties).sum(), terms

    def _penalty(self, loss: Tensor, rate: Tensor, share: Share) -> Tensor:
        if self.lagrangian == "linear":
            return loss
        # The slope 2R is the logged rate's: the loss has the same mean, but noise that can turn its
        # sign.
        # Squares of shares do not add up to the square of the whole.
        rate = share.summed(rate)
        return share.equal(rate.square()) + 2 * rate * (loss - loss.detach())

    @staticmethod
    def _rate(
        rate: Rate, model: nn.Module, posteriors: Sequence[Gaussian], z: Tensor, share: Share
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Shares of the batch means of the rate's loss, of its value and of q's own loss."""
        pseudo = rate.pseudo_inputs
        extra = [] if pseudo is None else [model.encode_settled(pseudo)]  # type: ignore[operator]
        # Of all processes: the aggregate posterior is that of the whole batch.
        whole = [
            share.gathered(*part, z_view)
            for part, z_view in zip(posteriors, z.chunk(len(posteriors)), strict=True)
        ]
        posteriors = [type(posteriors[0])(*part[:-1]) for part in whole]
        values = [
            rate.of_rows(part, z_view, share.rows, *extra)
            for part, (*_, z_view) in zip(posteriors, whole, strict=True)
        ]
        for value in values:
            _one_each(value.loss, share.size, "the rate's loss")
            _one_each(value.rate, share.size, "the rate")
        if rate.training:
            rate.remember(posteriors[0])  # a second view would be a second copy of each image
        loss = torch.stack([share.mean(value.loss) for value in values]).mean()
        fits = [share.mean(value.fit) for value in values if value.fit is not None]
        fit = torch.stack(fits).mean() if fits else None
        return loss, torch.stack([share.mean(value.rate) for value in values]).mean(), fit


def _one_each(values: Tensor, images: int, what: str) -> Tensor:
    """The values, which are one for each image; raises UsageError for any other shape."""
    if values.shape != (images,):
        # A mean would be divided once more, and nothing would tell.
        raise UsageError(
            f"{what} has shape {list(values.shape)} for {images} images; it must be one value for"
            f" each, [{images}], without a mean (docs/extending.md)"
        )
    return values


def _totals(terms: Mapping[str, Tensor], share: Share) -> dict[str, Tensor]:
    """The terms of the whole batch, from this process's shares of them, detached."""
    if share.world == 1:
        return {name: value.detach() for name, value in terms.items()}
    shares = torch.stack([value.detach().double() for value in terms.values()])
    return dict(zip(terms, share.summed(shares).unbind(), strict=True))


def _per_view(posterior: Gaussian, views: int) -> list[Gaussian]:
    """The posteriors of each view, [B, K] each."""
    size = len(posterior.mu) // views
    return [posterior.rows(slice(at * size, (at + 1) * size)) for at in range(views)]
