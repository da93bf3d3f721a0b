"""Adversarial neighbours: views that a few signed steps on a loss have found (method.md 3.6)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from paradise_cli.core.errors import UsageError
from paradise_cli.core.modes import eval_mode, running_statistics_kept
from paradise_cli.core.randomness import keyed_normal, keyed_uniform
from paradise_cli.information.distances import DISTANCES, Distance
from paradise_cli.perturbations.samplers import SAMPLERS, Encoder, Radius, Sampler, checked
from paradise_cli.perturbations.threat import Linf

Ascent: TypeAlias = Callable[[Tensor], Tensor]
"""What is climbed: images [B, C, H, W] near the given ones to values [B]."""

Loss = Literal["cross_entropy", "margin", "outputs", "posterior", "both", "linearity"]
Start = Literal["image", "uniform", "gaussian"]
Statistics = Literal["running", "batch"]
Size = Annotated[float, Field(gt=0, le=2)]  # a start or step may leave the ball before it is cut
Smoothing = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=1, le=1000)]  # each is a pass forward and back

_USUAL_DISTANCE = "symmetric_kl"
_START = 1  # purpose of the noise of a start, among the draws of one key


@SAMPLERS.register
@checked
def adversarial(
    *,
    eps: Radius,
    loss: Loss = "cross_entropy",
    distance: str = _USUAL_DISTANCE,
    label_smoothing: Smoothing = 0.0,
    steps: Steps = 1,
    step: Size | None = None,
    start: Start = "uniform",
    start_size: Size | None = None,
    project: bool = True,
    batch_norm: Statistics = "running",
) -> Sampler:
    """What `steps` signed gradient steps on a loss find within eps (L-infinity) of each image.

    Loss of z = mu: `cross_entropy` or `margin` of the labels; `outputs`: KL(p(x) || p(x'));
    `posterior`: the `distance` of p(z|x') from p(z|x); `both`: that plus the cross-entropy;
    `linearity`: how far the loss is from its tangent at x. `step` is the size of one, by default
    eps for one and 2.5 eps / steps for more. `start`: the image, uniform noise of radius
    `start_size` (by default eps) or Gaussian noise of that deviation. Without `project` only [0, 1]
    binds. Batch normalisation by `running` statistics or those of the crafted `batch`; the running
    ones are never changed.
    """
    search = Search(DISTANCES[distance](), label_smoothing)
    _require_effect(loss, distance, label_smoothing, start, start_size)
    threat = Linf(eps)
    # Enough to cross the ball from anywhere, as Madry et al. have it.
    size = step if step is not None else eps if steps == 1 else 2.5 * eps / steps
    reach = eps if start_size is None else start_size
    mode = eval_mode if batch_norm == "running" else running_statistics_kept

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        def inside(x: Tensor) -> Tensor:
            return threat.project(x, images) if project else x.clamp(0, 1)

        x = inside(images + reach * _direction(start, images, keys))
        with mode(model.module), torch.enable_grad():
            ascent: Ascent = getattr(search, loss)(images, labels, model)
            for _ in range(steps):
                x = inside(x + size * _slope(ascent, x).sign())
        return x

    return sampler


def _require_effect(
    loss: Loss, distance: str, label_smoothing: float, start: Start, start_size: float | None
) -> None:
    """Raise UsageError for settings that do not go together, or of which one changes nothing."""
    flat = loss in ("outputs", "posterior", "linearity")
    of_labels = loss in ("cross_entropy", "both", "linearity")
    # A resolved recipe has the usual values everywhere.
    compares = loss in ("posterior", "both") or distance == _USUAL_DISTANCE
    wrong = {
        f"loss {loss} has no slope at the image itself; use start: uniform": flat
        and start == "image",
        "start gaussian needs start_size, its deviation": start == "gaussian"
        and start_size is None,
        "start image lies at no distance: leave start_size out": start == "image"
        and start_size is not None,
        f"loss {loss} reads no label_smoothing: leave it out": label_smoothing > 0
        and not of_labels,
        f"loss {loss} reads no distance: leave it out, or use posterior or both": not compares,
    }
    for problem, found in wrong.items():
        if found:
            raise UsageError(f"sampler 'adversarial': {problem}")


def _direction(start: Start, images: Tensor, keys: Tensor) -> Tensor:
    """Where a start lies from the image, in units of its size."""
    shape = images.shape[1:]
    if start == "image":
        return torch.zeros_like(images)
    if start == "uniform":
        return (2 * keyed_uniform(keys, shape, _START) - 1).to(images.dtype)
    return keyed_normal(keys, shape, _START).to(images.dtype)


def _slope(ascent: Ascent, x: Tensor) -> Tensor:
    """The gradient of the values' sum, [B, C, H, W]."""
    x = x.detach().requires_grad_()
    # Not `backward`: it would also compute the gradients of all weights, to be thrown away.
    (slope,) = torch.autograd.grad(ascent(x).sum(), [x])
    return slope


@dataclass(frozen=True)
class Search:
    """For each loss, what is climbed around images [B, C, H, W] with labels [B]."""

    distance: Distance
    label_smoothing: float = 0.0

    def cross_entropy(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """-log p(y|x') in nats."""
        return lambda x: self._of_labels(_answers(x, model), labels)

    def margin(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """See `margins`."""
        return lambda x: margins(_answers(x, model), labels)

    def outputs(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """KL(p(x) || p(x')) in nats."""
        with torch.no_grad():
            clean = _answers(images, model)
        apart = DISTANCES["kl"]()
        return lambda x: apart.per_example(clean, _answers(x, model))

    def posterior(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """The distance of p(z|x') from p(z|x)."""
        with torch.no_grad():
            clean = model.encode(images)
        return lambda x: self.distance.per_example(clean, model.encode(x))

    def both(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """That plus -log p(y|x')."""
        with torch.no_grad():
            clean = model.encode(images)

        def values(x: Tensor) -> Tensor:
            # One pass for both: the encoder is nearly all of the cost.
            found = model.encode(x)
            apart = self.distance.per_example(clean, found)
            return apart + self._of_labels(model.logits(found.mu), labels)

        return values

    def linearity(self, images: Tensor, labels: Tensor, model: Encoder) -> Ascent:
        """|l(x') - l(x) - (x' - x) dl(x)|, l the cross-entropy."""
        loss = self.cross_entropy(images, labels, model)
        clean = images.detach().requires_grad_()
        values = loss(clean)
        (slope,) = torch.autograd.grad(values.sum(), [clean])
        flat = values.detach()

        def violation(x: Tensor) -> Tensor:
            rise = ((x - images) * slope).flatten(1).sum(1)
            return (loss(x) - flat - rise).abs()

        return violation

    def _of_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        # An unlabelled image has no loss and no slope: its view stays where it started.
        return functional.cross_entropy(
            logits,
            labels,
            ignore_index=-1,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )


def _answers(x: Tensor, model: Encoder) -> Tensor:
    return model.logits(model.encode(x).mu)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """max over j != y of z_j - z_y, [B]: above 0 for a wrong answer (method.md 5.2).

    Of an unlabelled image, whose label is -1, the value means nothing.
    """
    right = labels.clamp(min=0)[:, None]  # [B, 1]
    # Scattered and gathered: the shape of a mask's entries the device would have to tell.
    wrong = logits.scatter(1, right, -torch.inf)
    return wrong.amax(1) - logits.gather(1, right)[:, 0]
