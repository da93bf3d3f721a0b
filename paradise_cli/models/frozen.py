"""Backbones that others have trained, frozen: their features are computed once; docs/photos.md."""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.storage import content_digest, read_tensors
from paradise_cli.models.base import BACKBONES, Backbone, Shape
from paradise_cli.models.efficientnet import EfficientNetLite0

PACKAGED = {"efficientnet_lite0": EfficientNetLite0}
"""Networks whose weights come with this package; each has `out_features` and reads RGB."""


@BACKBONES.register
def frozen(
    in_shape: Shape, *, model: str = "efficientnet_lite0", normalise: bool = False
) -> Backbone:
    """A trained network without its classes, never trained further; its features are kept.

    With `normalise` the features of each image are divided by their root mean square.

    `efficientnet_lite0` (1,280 features, ImageNet) comes with the package. Images are best of 224
    pixels a side, as it was trained on.
    """
    if model not in PACKAGED:
        raise UsageError(
            f"frozen: no backbone '{model}'{did_you_mean(model, PACKAGED)}; known:"
            f" {', '.join(PACKAGED)}"
        )
    if in_shape[0] != 3:
        raise UsageError(f"frozen: {model} reads images of 3 channels, not {in_shape[0]}")
    # Without memory for numbers that would be replaced at once.
    with torch.device("meta"):
        network = PACKAGED[model]()
    tensors, _ = read_tensors(resource_dir("zoo") / "backbones" / f"{model}.safetensors")
    return Frozen(network, network.out_features, tensors, normalise=normalise)


class Frozen(Backbone):
    """A network in eval mode for ever, with weights that are no parameters and not saved.

    `digest` is that of its weights, and of how its features are normalised.
    """

    frozen = True

    def __init__(
        self,
        network: nn.Module,
        features: int,
        tensors: dict[str, Tensor],
        *,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = features
        self.normalise = normalise
        # Without a word of it where nothing is normalised: features that are kept stay so.
        self.digest = content_digest(tensors, {"normalise": True} if normalise else {})
        self.network = network
        for name, module in network.named_modules():
            for own in [*module._parameters]:
                # A buffer that is not persistent moves with the model, and that is all.
                value = tensors[f"{name}.{own}" if name else own]
                delattr(module, own)
                module.register_buffer(own, value.float(), persistent=False)
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.buffers()).device

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return rms_norm(features, features.shape[1:], eps=1e-12) if self.normalise else features
