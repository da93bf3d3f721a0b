"""How far posteriors move when images are changed within a ball: at random, and at worst."""

import torch
from torch import Tensor

from paradise_cli.core.randomness import image_keys
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.information.distances import DISTANCES
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.perturbations import SAMPLERS, Sampler

CHUNK = 100  # images that pass the model at a time
STEPS = 10  # of the search for the posterior that is farthest
DISTANCE = "l1"


def random_corner(eps: float) -> Sampler:
    """A random corner of the ball around each image."""
    return SAMPLERS["corner"](eps=eps)


def farthest(eps: float) -> Sampler:
    """What ten signed steps find in the ball, whose posterior is far from that of the image."""
    return SAMPLERS["adversarial"](eps=eps, loss="posterior", distance=DISTANCE, steps=STEPS)


def shifts(
    loaded: LoadedModel, head: str, images: Tensor, labels: Tensor, *samplers: Sampler
) -> list[Tensor]:
    """For each sampler the L1 distances [N] of p(z|x') from p(z|x), in deviations of mu over images
    [N, C, H, W]; x' is what it makes of x (method.md 3.2, 3.6).
    """
    keys = image_keys(torch.arange(len(images)), "local behaviour")
    clean, *moved = (
        _posteriors(loaded, head, images, labels, each, keys) for each in (None, *samplers)
    )
    return [DISTANCES[DISTANCE]().scale_free(clean, each) for each in moved]


def _posteriors(
    loaded: LoadedModel,
    head: str,
    images: Tensor,
    labels: Tensor,
    sampler: Sampler | None,
    keys: Tensor,
) -> DiagonalGaussian:
    """Of the images, or of the views that a sampler draws around them, on the CPU."""
    model, device = loaded.model, loaded.device
    encoder = EncoderWithHead(model, model.heads[head])
    found = []
    for part in torch.split(torch.arange(len(images)), CHUNK):
        seen = images[part].to(device)
        if sampler is not None:
            seen = sampler(seen, labels[part].to(device), encoder, keys[part].to(device))
        with torch.no_grad():
            found.append(encoder.encode(seen))
    return DiagonalGaussian(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))
