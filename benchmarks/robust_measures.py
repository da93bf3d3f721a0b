"""What is measured of each robust training beside its accuracies: what a step costs, how smooth the
loss is, and how far posteriors move.
"""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from paradise_cli.core.randomness import image_keys
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.information.distances import DISTANCES
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.perturbations import SAMPLERS, Sampler
from paradise_cli.reproduction.surface import directions, smoothness

CHUNK = 100  # images that pass the model at a time
STEPS = 10  # of the search for the posterior that is farthest


def local_behaviour(
    loaded: LoadedModel, head: str, images: Tensor, labels: Tensor, eps: float
) -> dict[str, Any]:
    """Smoothness of the cross-entropy, and how far posteriors move at random and at worst.

    A shift is the L1 distance of p(z|x') from p(z|x) in deviations of mu over the images: x' is a
    random corner of the ball, or what STEPS signed steps find.
    """
    device, index = loaded.device, torch.arange(len(images))
    keys = image_keys(index, "local behaviour")
    classify = loaded.model.classifier(head=head)
    wavering, gaps = [], []
    for part in index.split(CHUNK):
        some, right = images[part].to(device), labels[part, None].to(device)

        def loss(x: Tensor, right: Tensor = right) -> Tensor:
            return -classify(x).gather(1, right)[:, 0]

        x = some.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x).sum(), [x])
        steepest, random = directions(gradient, keys[part].to(device))
        waver, gap = smoothness(loss, some, gradient, steepest, random, eps)
        wavering.append(waver.cpu())
        gaps.append(gap.cpu())
    corner = SAMPLERS["corner"](eps=eps)
    worst = SAMPLERS["adversarial"](eps=eps, loss="posterior", distance="l1", steps=STEPS)
    clean = _posteriors(loaded, head, images, labels, None, keys)
    apart = DISTANCES["l1"]().scale_free
    shifts = {
        name: apart(clean, _posteriors(loaded, head, images, labels, sampler, keys))
        for name, sampler in {"random_shift": corner, "worst_shift": worst}.items()
    }
    return {
        "n": len(images),
        "wavering": asdict(Mean.of(torch.cat(wavering))),
        # Of a share whose denominator may be next to 0 the mean says nothing.
        "linearity": float(torch.cat(gaps).median()),
        **{name: asdict(Mean.of(shift)) for name, shift in shifts.items()},
    }


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
    for part in torch.arange(len(images)).split(CHUNK):
        seen = images[part].to(device)
        if sampler is not None:
            seen = sampler(seen, labels[part].to(device), encoder, keys[part].to(device))
        with torch.no_grad():
            found.append(model.encode(seen))
    mu = torch.cat([each.mu for each in found]).cpu()
    return DiagonalGaussian(mu, torch.cat([each.sigma for each in found]).cpu())
