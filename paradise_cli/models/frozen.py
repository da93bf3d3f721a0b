"""Backbones that others have trained, frozen: their features are computed once; docs/photos.md."""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from paradise_cli.core.errors import ParadiseError, UsageError, named
from paradise_cli.core.ranges import whole
from paradise_cli.core.registry import Registry
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.storage import content_digest, read_tensors
from paradise_cli.models.base import BACKBONES, Backbone, Shape
from paradise_cli.models.efficientnet import EfficientNetLite0
from paradise_cli.models.encoder import StochasticEncoder

NETWORKS: Registry[nn.Module] = Registry("trained network")
"""Networks with their weights, from pixels [B, C, H, W] in [0, 1] to features [B, F].

Other modules add theirs by `@NETWORKS.register`. A network's `channels` and `out_features`, where
it has both, say what it takes and gives; else it is asked about one black image.
"""


@NETWORKS.register
def efficientnet_lite0() -> nn.Module:
    """1,280 features, of ImageNet's classes; its weights come with this package."""
    # Without memory for numbers that would be replaced at once.
    with torch.device("meta"):
        network = EfficientNetLite0()
    tensors, _ = read_tensors(resource_dir("zoo") / "backbones" / "efficientnet_lite0.safetensors")
    network.load_state_dict(tensors, assign=True)
    return network


MOST_VIEWS = 64
"""Sets of features that are kept of a training's images: 64 of 5,000 are 1.6 GB."""


@BACKBONES.register
def frozen(
    in_shape: Shape,
    *,
    model: str = "efficientnet_lite0",
    normalise: bool = False,
    views: int = 1,
) -> Backbone:
    """A trained network without its classes, never trained further; its features are kept.

    With `normalise` the features of each image are divided by their root mean square. A training
    sees `views` of each image: itself, and others that `data.augment` draws.

    `efficientnet_lite0` (1,280 features, ImageNet) comes with the package. Images are best of 224
    pixels a side, as it was trained on. Others are added as docs/photos.md shows.
    """
    whole(views, "frozen: views", 1, MOST_VIEWS)
    make = NETWORKS[model]
    # Where only shapes are wanted, too: what is made of weights without numbers has lost them.
    with torch.device("cpu"):
        try:
            network = make()
        except Exception as error:
            raise ParadiseError(f"frozen: {model} cannot be made: {named(error)}") from error
        return Frozen(network, _features(model, network, in_shape), normalise=normalise)


def _features(model: str, network: nn.Module, in_shape: Shape) -> int:
    """How many features the network gives; UsageError where it gives none for such images."""
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UsageError(f"frozen: {model} is a {kind}; let it return a torch.nn.Module")
    channels, known = (getattr(network, name, None) for name in ("channels", "out_features"))
    if isinstance(channels, int) and isinstance(known, int):
        if in_shape[0] != channels:
            asked = f"images of {channels} channels, not {in_shape[0]}"
            raise UsageError(f"frozen: {model} reads {asked}")
        return known
    size = "x".join(map(str, in_shape))
    try:
        with torch.no_grad():
            found = network.float().eval()(torch.zeros(1, *in_shape))
    except Exception as error:
        raise UsageError(f"frozen: {model} fails on an image of {size}: {named(error)}") from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 1:
        given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"frozen: of an image of {size} {model} makes {given}, where features are [1, F]: end"
            " it with a mean over positions and nn.Flatten()"
        )
    return found.shape[1]


class BackboneOf(nn.Module):
    """The backbone of an encoder as a network: pixels [B, C, H, W] in [0, 1] to features [B, F]."""

    def __init__(self, encoder: StochasticEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.features(images)


class Frozen(Backbone):
    """A network in eval mode for ever, with weights that are no parameters and not saved.

    `digest` is that of its weights and layers, and of how its features are normalised.
    """

    frozen = True

    def __init__(self, network: nn.Module, features: int, *, normalise: bool = False) -> None:
        super().__init__()
        self.out_features = features
        self.normalise = normalise
        numbers = dict(network.named_parameters()) | dict(network.named_buffers())
        self.digest = content_digest(numbers, {"layers": repr(network), "normalise": normalise})
        self.network = network
        for module in network.modules():
            # It would look for its number of batches among what is loaded; its statistics stay.
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                module.track_running_stats = False
            for name, value in [*module._parameters.items(), *module._buffers.items()]:
                if value is not None:
                    delattr(module, name)
                    # A buffer that is not persistent moves with the model, and that is all.
                    number = value.detach().float() if value.is_floating_point() else value
                    module.register_buffer(name, number, persistent=False)
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next((each.device for each in self.buffers()), torch.device("cpu"))

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return rms_norm(features, features.shape[1:], eps=1e-12) if self.normalise else features
