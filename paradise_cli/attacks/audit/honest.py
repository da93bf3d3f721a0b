"""Honest classifiers that the audit must not take for shams.

All classify the 8 x 8 digits. They have a random backbone of one kind, which is never trained, and
a last layer fitted in closed form: an architecture costs milliseconds and no file.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from paradise_cli.attacks.audit.canaries import Disguised, network
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.data import DATASETS

HONEST: dict[str, Callable[[], Function]] = {}
"""By name."""


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


def _saturated(net: Function) -> Function:
    """Pixels through a steep sigmoid: flat near black and white, where little can be changed."""
    return Disguised(net, images=lambda images: torch.sigmoid(60 * (images - 0.5)))


HONEST |= {
    "robust": lambda: network("robust"),
    "encoder_mean": lambda: network("encoder"),
    "batch_norm": lambda: network("batch_norm"),
    "half_precision_logits": lambda: _as_float16(network("robust")),
    "saturated_inputs": lambda: _saturated(network("standard")),
    "small_logits": lambda: Disguised(network("robust"), logits=lambda logits: 0.01 * logits),
}
