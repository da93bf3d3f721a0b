"""More kinds of classifiers that the audit is tried on: shams of other kinds, and honest ones.

All classify the 8 x 8 digits. Shams hide the shipped network `standard`, each in its own way.
Honest ones have a random backbone of one kind, which is never trained, and a last layer fitted in
closed form: an architecture costs milliseconds and no file.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paradise_cli.attacks.audit.canaries import Disguised, network
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.core.randomness import generator
from paradise_cli.data import DATASETS

SHAMS: dict[str, Callable[[], Function]] = {}
"""By name; the twin of each is the shipped network `standard`."""
HONEST: dict[str, Callable[[], Function]] = {}
"""By name."""


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


@_sham
def stepped_activations() -> Function:
    """Activations quantised by comparisons."""
    net = network("standard")
    backbone: Any = net.backbone
    for place, layer in enumerate(backbone):
        if isinstance(layer, nn.ReLU):
            backbone[place] = Stepped((0.5, 1.0, 2.0))
    return net.eval()


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


def _honest(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def fitted() -> Function:
        # Layers draw their first weights from the global generator.
        torch.manual_seed(0)
        return _fitted(make().eval())

    HONEST[make.__name__] = fitted
    return make


class Fitted(nn.Module):
    """A backbone and the linear layer that fits the training images best."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone, self.linear = backbone, nn.Linear(features, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.backbone(2 * images - 1).flatten(1))
        return logits


def _fitted(backbone: nn.Module) -> Function:
    """Ridge regression of the classes on the features, with logits of about +-5."""
    images, labels = _training_images()
    with torch.no_grad():
        features = backbone(2 * images - 1).flatten(1).double()
        # A feature that is always the same must not be divided by nothing.
        mean, spread = features.mean(0), features.std(0) + 1e-3
        inputs = (features - mean) / spread
        targets = 10 * functional.one_hot(labels, 10).double() - 5
        # The ridge keeps weights small where features repeat each other.
        gram = inputs.T @ inputs + 30 * torch.eye(inputs.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, inputs.T @ targets) / spread[:, None]
        # Standardisation folded into the layer, so that logits are one linear map of features.
        net = Fitted(backbone, len(weight))
        net.linear.weight.copy_(weight.T)
        net.linear.bias.copy_(targets.mean(0) - mean @ weight)
    return net.eval()


@cache
def _training_images() -> tuple[Tensor, Tensor]:
    train = DATASETS["digits"](None).train
    n = len(train.labels)
    (images,) = train.fetch(torch.arange(n), n, (), False)
    return images.float() / 255, train.labels[:, 0]


def _convolutions(*between: Callable[[], nn.Module], channels: int = 24) -> nn.Module:
    """Two convolutions, each followed by these layers."""
    layers: list[nn.Module] = []
    for before, stride in ((1, 1), (channels, 2)):
        layers.append(nn.Conv2d(before, channels, 3, stride=stride, padding=1))
        layers += [make() for make in between]
    return nn.Sequential(*layers)


@_honest
def relu() -> nn.Module:
    return _convolutions(nn.ReLU)


@_honest
def gelu() -> nn.Module:
    return _convolutions(nn.GELU)


@_honest
def tanh() -> nn.Module:
    return _convolutions(nn.Tanh)


@_honest
def softplus() -> nn.Module:
    return _convolutions(nn.Softplus)


@_honest
def silu() -> nn.Module:
    return _convolutions(nn.SiLU)


@_honest
def leaky_relu() -> nn.Module:
    return _convolutions(lambda: nn.LeakyReLU(0.1))


@_honest
def group_norm() -> nn.Module:
    return _convolutions(lambda: nn.GroupNorm(4, 24), nn.ReLU)


@_honest
def dropout() -> nn.Module:
    return _convolutions(nn.ReLU, lambda: nn.Dropout(0.5))


@_honest
def max_pool() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return functional.avg_pool2d(h + torch.relu(self.second(h)), 2)


@_honest
def residual() -> nn.Module:
    return _Residual()


class _Attention(nn.Module):
    """One transformer layer on sixteen patches of two by two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 2, stride=2)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.layer(self.embed(x).flatten(2).transpose(1, 2))
        return tokens


@_honest
def attention() -> nn.Module:
    return _Attention()


def _as_float16(net: Function) -> Function:
    return Disguised(net, logits=lambda logits: logits.half())


HONEST |= {
    "robust": lambda: network("robust"),
    "encoder_mean": lambda: network("encoder"),
    "batch_norm": lambda: network("batch_norm"),
    "half_precision_logits": lambda: _as_float16(network("robust")),
    "small_logits": lambda: Disguised(network("robust"), logits=lambda logits: 0.01 * logits),
}
