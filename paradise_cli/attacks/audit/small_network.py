"""Networks of some 12,000 weights on small images, which attacks and the audit are tested on."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import softplus

from paradise_cli.core.storage import load_tensors
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.models.base import Shape
from paradise_cli.models.conv import strided_layers

WIDTHS = [16, 24, 32]


class SmallNetwork(nn.Module):
    """Pixels [B, C, H, W] in [0, 1] to logits [B, classes]: three convolutions, ReLU and a linear
    layer.
    """

    def __init__(self, shape: Shape, classes: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.backbone, features = strided_layers(shape, WIDTHS, batch_norm)
        self.linear = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.backbone(2 * images - 1))
        return logits


class SmallEncoder(nn.Module):
    """Pixels to a posterior of `latent_dim` latents, whose mean is classified linearly."""

    def __init__(self, shape: Shape, classes: int, *, latent_dim: int = 16) -> None:
        super().__init__()
        self.backbone, features = strided_layers(shape, WIDTHS, False)
        self.posterior_head = nn.Linear(features, 2 * latent_dim)
        self.linear = nn.Linear(latent_dim, classes)

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        """mu and sigma of each image, [B, latent_dim]."""
        # One head for both: a posterior's mean and width see the same features.
        mu, rho = self.posterior_head(self.backbone(2 * images - 1)).chunk(2, 1)
        return DiagonalGaussian(mu, softplus(rho) + 1e-4)

    def classify(self, z: Tensor) -> Tensor:
        """Logits [B, classes] of latents [B, latent_dim]."""
        logits: Tensor = self.linear(z)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.posterior(images).mu)


def small_network(kind: str, shape: Shape, classes: int) -> nn.Module:
    """An untrained network: `small`, `small:batch_norm` or `small:encoder`."""
    if kind == "small:encoder":
        return SmallEncoder(shape, classes)
    return SmallNetwork(shape, classes, batch_norm=kind == "small:batch_norm")


def load_small_network(path: Path) -> nn.Module:
    """A network of `networks/`, in eval mode; errors as `load_tensors`.

    Its file says what network it is: these are older than the recipes that train such networks now.
    """
    tensors, metadata = load_tensors(path)
    net = small_network(metadata["net"], tuple(metadata["shape"]), metadata["classes"])
    net.load_state_dict(tensors)
    # Saved networks are to be attacked, never trained further.
    return net.eval()
