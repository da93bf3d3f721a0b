"""Classifiers whose robustness is a sham, each beside its smooth twin: the audit must catch them.

`zero_gradient()` is the shipped one, of 8 x 8 digits; `zero_gradient(base)` disguises any
classifier.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import simplejpeg
import torch
from torch import Tensor, nn

from paradise_cli.attacks.audit.small_network import load_small_network
from paradise_cli.attacks.engine.classifier import Function, ThroughLatents
from paradise_cli.core.errors import UsageError
from paradise_cli.information.gaussian import Gaussian

NETWORKS = Path(__file__).parent / "networks"
"""Weights of the shipped classifiers (docs/reference-networks.md)."""


@dataclass(frozen=True)
class Canary:
    """A disguise for classifiers; without one, for `network` of the shipped ones."""

    name: str
    hides: str
    network: str
    disguise: Callable[[Function], Function]

    def __call__(self, base: Function | None = None) -> Function:
        return self.disguise(self.twin() if base is None else base)

    def twin(self) -> nn.Module:
        """The shipped network without its disguise."""
        return network(self.network)


def network(name: str) -> nn.Module:
    """A shipped classifier of digits, [B, 1, 8, 8]; raises ParadiseError for one that is not
    there.
    """
    return load_small_network(NETWORKS / f"{name}.safetensors")


def robust() -> nn.Module:
    """No canary: trained on adversarial examples of radius 0.15, it must not be taken for one."""
    return network("robust")


CANARIES: dict[str, Canary] = {}
"""By name; each lies in this module under its name too."""


def _canary(network: str, hides: str) -> Callable[[Callable[[Function], Function]], Canary]:
    def register(disguise: Callable[[Function], Function]) -> Canary:
        name = disguise.__name__
        CANARIES[name] = Canary(name, hides, network, disguise)
        return CANARIES[name]

    return register


class Disguised(nn.Module):
    """`base`, with something done to its images or its logits."""

    def __init__(
        self,
        base: Function,
        images: Callable[[Tensor], Tensor] | None = None,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.base, self.images, self.logits = base, images, logits
        self.training = False  # the base keeps its own mode

    def forward(self, images: Tensor) -> Tensor:
        answer = self.base(images if self.images is None else self.images(images))
        return answer if self.logits is None else self.logits(answer)


@_canary("standard", "a first layer that changes nothing and sends back a gradient of zero")
def zero_gradient(base: Function) -> Function:
    return Disguised(base, images=lambda images: images.detach() + 0 * images)


@_canary("standard", "pixels rounded to 8 bits, a staircase whose gradient is zero")
def quantiser(base: Function) -> Function:
    return Disguised(base, images=lambda images: (255 * images).round() / 255)


@_canary(
    "standard", "logits so large that the softmax saturates and the cross-entropy has no gradient"
)
def large_logits(base: Function) -> Function:
    return Disguised(base, logits=lambda logits: 1000 * logits)


@_canary("standard", "pixels compressed as JPEG of quality 75, which cuts the gradient")
def jpeg(base: Function) -> Function:
    return Disguised(base, images=_through_jpeg)


@_canary("noise", "training for equal answers under random noise, which is no attack")
def noise_consistency(base: Function) -> Function:
    return base  # the disguise is in the weights


@_canary(
    "encoder",
    "another latent drawn at each call, so that one gradient and one answer prove nothing",
)
def sampled_dvib(base: Function) -> Function:
    if not isinstance(base, ThroughLatents):
        raise UsageError(
            "sampled_dvib needs an encoder: a classifier with `posterior` and `classify`"
        )
    return SampledLatents(base)


class SampledLatents(nn.Module):
    """A stochastic encoder that classifies one fresh draw from each posterior."""

    def __init__(self, base: ThroughLatents) -> None:
        super().__init__()
        self.base = base
        self.training = False

    def posterior(self, images: Tensor) -> Gaussian:
        """Of the encoder within."""
        return self.base.posterior(images)

    def classify(self, z: Tensor) -> Tensor:
        """Of the encoder within."""
        return self.base.classify(z)

    def forward(self, images: Tensor) -> Tensor:
        posterior = self.posterior(images)
        return self.classify(posterior.rsample(torch.randn_like(posterior.mu)))


@_canary(
    "batch_norm", "batch normalisation by the batch at hand: an answer depends on its neighbours"
)
def batch_statistics(base: Function) -> Function:
    # A copy: the twin must stay what it is.
    disguised = copy.deepcopy(base)
    modules = disguised.modules() if isinstance(disguised, nn.Module) else ()
    layers = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        raise UsageError("batch_statistics needs a torch module with batch normalisation")
    # Without running statistics a layer in eval mode normalises by its batch.
    for layer in layers:
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    return disguised


def _through_jpeg(images: Tensor) -> Tensor:
    """Images [B, C, H, W] as they come out of a JPEG file of quality 75 (no chroma subsampling)."""
    # Without chroma subsampling grey and colour lose the same way.
    colours = "GRAY" if images.shape[1] == 1 else "RGB"
    pixels = (
        (255 * images.detach())
        .round()
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
        .cpu()
        .numpy()
    )
    files = [simplejpeg.encode_jpeg(each, 75, colours, "444") for each in pixels]
    decoded = [torch.from_numpy(simplejpeg.decode_jpeg(file, colours)) for file in files]
    return torch.stack(decoded).permute(0, 3, 1, 2).to(images) / 255
