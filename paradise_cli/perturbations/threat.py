"""Threat models: which changed images count, and how a norm starts, steps and projects."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import did_you_mean

TOLERANCE = 1e-6
"""By how much a perturbation may exceed eps through rounding."""


@dataclass(frozen=True)
class Threat(ABC):
    """Images [B, C, H, W] in [0, 1] within `eps`, in pixel units, of the originals."""

    eps: float

    name = ""

    def project(self, x: Tensor, images: Tensor) -> Tensor:
        """The points of the ball, within [0, 1], that stand for x."""
        # In this order: the box holds the image, so that clamping leads no further away from it.
        return self._into_ball(x, images).clamp(0, 1)

    def contains(self, x: Tensor, images: Tensor) -> Tensor:
        """Whether each x is an image in the ball, bool [B]; false for what is not a number."""
        pixels = x.flatten(1)
        inside = (pixels.amin(1) >= 0) & (pixels.amax(1) <= 1)
        return inside & (self.distance(x, images) <= self.eps + TOLERANCE)

    @abstractmethod
    def distance(self, x: Tensor, images: Tensor) -> Tensor:
        """The norm of the perturbation, [B]."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit norm that ascends most; 0 where the gradient is 0."""

    @abstractmethod
    def second_moment(self, gradient: Tensor) -> Tensor:
        """What Adam divides by the root of: each pixel's square, or the mean for a direction."""

    @abstractmethod
    def random(self, uniform: Tensor) -> Tensor:
        """Perturbations spread over the ball, from uniform noise in (0, 1) of the same shape."""

    @abstractmethod
    def _into_ball(self, x: Tensor, images: Tensor) -> Tensor: ...


class Linf(Threat):
    """No pixel changes by more than eps."""

    name = "linf"

    def distance(self, x: Tensor, images: Tensor) -> Tensor:
        return (x - images).abs().flatten(1).amax(1)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def second_moment(self, gradient: Tensor) -> Tensor:
        return gradient.square()

    def random(self, uniform: Tensor) -> Tensor:
        return (2 * uniform - 1) * self.eps

    def _into_ball(self, x: Tensor, images: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, images - self.eps), images + self.eps)


class L2(Threat):
    """The perturbation has Euclidean length of at most eps."""

    name = "l2"

    def distance(self, x: Tensor, images: Tensor) -> Tensor:
        # In double: the sum of many small squares would lose more than TOLERANCE in fp32.
        length: Tensor = vector_norm((x - images).flatten(1), dim=1, dtype=torch.float64)
        return length.to(x.dtype)

    def steepest(self, gradient: Tensor) -> Tensor:
        tiny = torch.finfo(gradient.dtype).tiny
        # The squares of small gradients would be 0.
        scaled = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny)
        return scaled / per_image(vector_norm(scaled.flatten(1), dim=1).clamp(min=tiny))

    def second_moment(self, gradient: Tensor) -> Tensor:
        return gradient.square().mean((1, 2, 3), keepdim=True).expand_as(gradient)

    def random(self, uniform: Tensor) -> Tensor:
        direction = self.steepest(torch.special.ndtri(uniform))
        # The radius comes from one of the numbers that gave the direction: one pixel hardly tells
        # of it.
        radius = uniform.flatten(1)[:, 0] ** (1 / uniform[0].numel())
        return direction * per_image(radius * self.eps)

    def _into_ball(self, x: Tensor, images: Tensor) -> Tensor:
        # No closer than eps / 2, so that the image itself is not divided by a length of 0.
        shrink = (self.eps / self.distance(x, images).clamp(min=self.eps / 2)).clamp(max=1)
        return images + (x - images) * per_image(shrink)


NORMS: dict[str, type[Threat]] = {"linf": Linf, "l2": L2}


def threat_model(norm: str, eps: float) -> Threat:
    """The threat of that norm; raises UsageError for another norm or an eps that is no radius."""
    if norm not in NORMS:
        raise UsageError(
            f"unknown norm '{norm}'{did_you_mean(norm, list(NORMS))}; known: {', '.join(NORMS)}"
        )
    if not eps > 0:
        raise UsageError(
            f"eps must be above 0, not {eps:g}: at 0 robust accuracy is clean accuracy"
        )
    if norm == "linf" and eps > 1:
        raise UsageError(
            f"eps is in pixel units and pixels lie in [0, 1]: {eps:g} is too large; write 8/255"
        )
    if eps == float("inf"):
        raise UsageError("eps must be finite")
    return NORMS[norm](eps)


def radius_text(norm: str, radius: float) -> str:
    """A radius as people write it, to four digits: 8/255 in L-infinity, else 0.5."""
    # 8-bit images change in steps of 1/255; the length of a whole change has no such unit.
    if norm != "linf" or radius == 0:
        return f"{radius:.4g}"
    return f"{255 * radius:.4g}/255"


def per_image(values: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)
