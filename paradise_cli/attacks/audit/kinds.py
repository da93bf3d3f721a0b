"""More kinds of shams that the audit is tried on.

All classify the 8 x 8 digits, and hide the shipped network `standard`, each in its own way.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paradise_cli.attacks.audit.canaries import Disguised, network
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.core.randomness import generator

SHAMS: dict[str, Callable[[], Function]] = {}
"""By name; the twin of each is the shipped network `standard`."""


def _sham(make: Callable[[], Function]) -> Callable[[], Function]:
    SHAMS[make.__name__] = make
    return make


class Stepped(nn.Module):
    """Activations of four levels, by comparisons, with a trace of the activation itself added."""

    def __init__(self, levels: tuple[float, float, float]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        # The trace gives a gradient everywhere that says next to nothing.
        total = torch.mul(x, 0.001)
        for low, high in pairwise((0.0, *self.levels)):
            total = total + (high - low) * (x > (low + high) / 2).to(x.dtype)
        return total


def _with_activations(make: Callable[[], nn.Module]) -> Function:
    """The shipped network with these in place of its rectifiers."""
    net = network("standard")
    backbone: Any = net.backbone
    for place, layer in enumerate(backbone):
        if isinstance(layer, nn.ReLU):
            backbone[place] = make()
    return net.eval()


@_sham
def stepped_activations() -> Function:
    """Activations quantised by comparisons."""
    return _with_activations(lambda: Stepped((0.5, 1.0, 2.0)))


@_sham
def borrowed_scores() -> Function:
    """The class of one network with the scores, and so the gradients, of another."""
    decides, scores = network("standard"), network("noise")

    def answer(images: Tensor) -> Tensor:
        label = decides(images).argmax(1, keepdim=True)
        logits = scores(images)
        best = logits.argmax(1, keepdim=True)
        # The two logits change places, so that the best one is where the class is.
        swapped = logits.scatter(1, best, logits.gather(1, label))
        found: Tensor = swapped.scatter(1, label, logits.gather(1, best))
        return found

    return answer


@_sham
def switching_ensemble() -> Function:
    """Two networks, of which a hash of the pixels chooses one."""
    one, other = network("standard"), network("batch_norm")

    def answer(images: Tensor) -> Tensor:
        # The sum of all pixels in units of 1e-4 is odd or even as if at random.
        digest = (images.detach() * 1e4).floor().sum((1, 2, 3)).remainder(2)
        return torch.where(digest[:, None] > 0, one(images), other(images))

    return answer


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        # A function must not return its own input: autograd would take it for a view.
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


@_sham
def reversed_gradient() -> Function:
    """A gradient that points away from every wrong class."""

    def images(given: Tensor) -> Tensor:
        reversed_images: Tensor = _Reversed.apply(given)
        return reversed_images

    return Disguised(network("standard"), images=images)


@_sham
def saturated_softmax() -> Function:
    """Probabilities of a very cold softmax, which no image near the given one changes."""

    def logits(given: Tensor) -> Tensor:
        # The floor under each probability is what cuts the last gradient off.
        return (1e-6 + (50 * given).softmax(1)).log()

    return Disguised(network("standard"), logits=logits)


@_sham
def voted() -> Function:
    """Votes of the network on sixteen noisy copies, as randomised smoothing counts them."""
    net = network("standard")
    noise = 0.1 * torch.randn(16, 1, 8, 8, generator=generator(0, "votes"))

    def answer(images: Tensor) -> Tensor:
        copies = (images[:, None] + noise.to(images)).flatten(0, 1)
        classes = net(copies).argmax(1)
        votes = functional.one_hot(classes, 10).view(len(images), len(noise), 10)
        # A share of the soft answer leaves a gradient that votes do not follow.
        found: Tensor = votes.sum(1).float() + 1e-3 * net(images)
        return found

    return answer


@_sham
def median_filter() -> Function:
    """A median over each three by three pixels, then one bit of each and a trace of the rest."""

    def images(given: Tensor) -> Tensor:
        # Replicated edges: zeros would make every border pixel the largest of its window.
        padded = functional.pad(given, (1, 1, 1, 1), mode="replicate")
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        middle = windows.median(4).values
        sharp = (given > middle).to(given.dtype)
        return given.detach() + 0.2 * (sharp - 0.5) + 1e-3 * (middle - middle.detach())

    return Disguised(network("standard"), images=images)


class Winners(nn.Module):
    """The `share` largest activations of an image, and zeros (k winners take all)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), 1).values[:, -1:]
        return (flat * (flat >= least).to(flat.dtype)).view_as(x)


@_sham
def k_winners() -> Function:
    """Sparse activations, of which others win a little further on (Xiao et al. 2020)."""
    return _with_activations(lambda: Winners(0.1))


@_sham
def quantised_logits() -> Function:
    """Logits in steps of a half, with a trace of themselves."""

    def logits(given: Tensor) -> Tensor:
        return (2 * given.detach()).round() / 2 + 1e-3 * (given - given.detach())

    return Disguised(network("standard"), logits=logits)


@_sham
def distilled() -> Function:
    """Logits as large as distillation at a high temperature leaves them (Papernot et al. 2016)."""

    def logits(given: Tensor) -> Tensor:
        return (40 * given).log_softmax(1).clamp(min=-100)

    return Disguised(network("standard"), logits=logits)


@_sham
def thermometer() -> Function:
    """Pixels as sixteen comparisons with steps of their own (Buckman et al. 2018)."""

    def images(given: Tensor) -> Tensor:
        steps = (
            torch.arange(1, 17, device=given.device, dtype=given.dtype).view(-1, 1, 1, 1, 1) / 16.5
        )
        return (given > steps).to(given.dtype).mean(0) + 1e-3 * (given - given.detach())

    return Disguised(network("standard"), images=images)


@_sham
def decoy_classes() -> Function:
    """Ripples on three classes, which look near by the tangent and come no nearer."""
    net = network("standard")
    waves = torch.randn(10, 64, generator=generator(0, "ripples")).sign()

    def answer(images: Tensor) -> Tensor:
        logits = net(images)
        ripples = torch.sin(500 * images.flatten(1) @ waves.to(images).T)
        # Of an image three classes in turn, which its most probable one decides.
        first = logits.detach().argmax(1, keepdim=True)
        decoys = (first + torch.tensor([[3, 5, 7]], device=images.device)) % 10
        marked = torch.zeros_like(logits).scatter(1, decoys, 1.0)
        found: Tensor = logits + marked * ripples
        return found

    return answer
