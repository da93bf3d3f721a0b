"""Fully connected backbone and decoder."""

import math

from torch import Tensor, nn

from paradise_cli.models.base import BACKBONES, HEADS, Backbone, Head, Shape, require_positive


@BACKBONES.register
def mlp(in_shape: Shape, *, hidden: list[int]) -> Backbone:
    """Linear-ReLU layers of the given widths on flattened pixels.

    DVIB's are [1024, 1024] (method.md 2.7). An empty list gives the pixels themselves, hence a
    linear encoder.
    """
    return MLPBackbone(in_shape, hidden)


@HEADS.register
def mlp_decoder(latent_dim: int, classes: int, out_shape: Shape, *, hidden: list[int]) -> Head:
    """Linear-ReLU layers of the given widths, then one linear layer to pre-sigmoid pixels."""
    return MLPDecoder(latent_dim, out_shape, hidden)


@HEADS.register
def projection(
    latent_dim: int, classes: int, out_shape: Shape, *, hidden: list[int], features: int = 32
) -> Head:
    """Linear-ReLU layers of the given widths, then one linear layer to an embedding [B, features].

    What two views of an image are compared in (Chen et al. 2020); z itself is what is kept.
    """
    return Projection(latent_dim, hidden, features)


class MLPBackbone(Backbone):
    """See `mlp`."""

    def __init__(self, in_shape: Shape, hidden: list[int]) -> None:
        super().__init__()
        self.layers = _layers("mlp", math.prod(in_shape), hidden)
        # Without a layer the features are the pixels.
        self.out_features = hidden[-1] if hidden else math.prod(in_shape)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images.flatten(1))
        return out


class MLPDecoder(Head):
    """See `mlp_decoder`."""

    kind = "pixels"

    def __init__(self, latent_dim: int, out_shape: Shape, hidden: list[int]) -> None:
        super().__init__()
        self.layers = _layers("mlp_decoder", latent_dim, hidden)
        self.to_pixels = nn.Linear(hidden[-1] if hidden else latent_dim, math.prod(out_shape))
        self.out_shape = out_shape

    def forward(self, z: Tensor) -> Tensor:
        # Before the sigmoid: the distortion knows which link it wants.
        out: Tensor = self.to_pixels(self.layers(z))
        return out.view(-1, *self.out_shape)


class Projection(Head):
    """See `projection`."""

    kind = "embedding"

    def __init__(self, latent_dim: int, hidden: list[int], features: int) -> None:
        super().__init__()
        require_positive("projection", features=features)
        self.layers = _layers("projection", latent_dim, hidden)
        self.to_features = nn.Linear(hidden[-1] if hidden else latent_dim, features)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.to_features(self.layers(z))
        return out


def _layers(owner: str, features: int, hidden: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    # Each width is checked by itself, so that the message names the wrong one.
    for width in hidden:
        require_positive(owner, hidden=width)
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers)
