"""What a backbone and a head are, and the registries that name them."""

from typing import Literal

from torch import Tensor, nn

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import Registry

Shape = tuple[int, int, int]  # channels, height, width


class Backbone(nn.Module):
    """Normalised images [B, C, H, W] to features [B, out_features].

    One that is `frozen` reads pixels in [0, 1], is never trained and has nothing in its state, so
    that its features may be computed once and kept.
    """

    out_features: int
    frozen = False


def is_frozen(backbone: nn.Module) -> bool:
    """Whether a backbone is frozen; a component of somebody's own need not know of it."""
    return bool(getattr(backbone, "frozen", False))


class Features(Backbone):
    """Stands for a frozen backbone where its features [B, F, 1, 1] are at hand."""

    frozen = True

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Head(nn.Module):
    """Latents [B, latent_dim] to logits [B, classes], to pre-sigmoid pixels [B, C, H, W] or to an
    embedding [B, features] that is compared with another view's.
    """

    # Which distortions can read the output, checked when a model is built.
    kind: Literal["logits", "pixels", "embedding"]


BACKBONES: Registry[Backbone] = Registry("backbone")
HEADS: Registry[Head] = Registry("head")
HEADS_OF = {
    "logits": "linear",
    "pixels": "a decoder such as mlp_decoder",
    "embedding": "projection",
}
"""Which heads give each kind of output, as a message says it."""


@HEADS.register
def linear(latent_dim: int, classes: int, out_shape: Shape) -> Head:
    """One linear layer to class logits."""
    return LinearClassifier(latent_dim, classes)


class LinearClassifier(Head):
    """Logits [B, classes] of a softmax classifier on z."""

    kind = "logits"

    def __init__(self, latent_dim: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(latent_dim, classes)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.layer(z)
        return out


def require_positive(owner: str, **values: int) -> None:
    """UsageError that names the first hyper-parameter below 1."""
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"{owner}: {name} must be at least 1, not {value}")
