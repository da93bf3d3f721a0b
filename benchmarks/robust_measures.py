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
from paradise_cli.reproduction.posterior_shift import farthest, random_corner, shifts
from paradise_cli.reproduction.surface import directions, smoothness, typical

CHUNK = 100  # images that pass the model at a time


def local_behaviour(
    loaded: LoadedModel, head: str, images: Tensor, labels: Tensor, eps: float
) -> dict[str, Any]:
    """Smoothness of the cross-entropy, and how far posteriors move at random and at worst.

    A shift is the L1 distance of p(z|x') from p(z|x) in deviations of mu over the images: x' is a
    random corner of the ball, or what ten signed steps find.
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
    around = {"random_shift": random_corner(eps), "worst_shift": farthest(eps)}
    moved = shifts(loaded, head, images, labels, *around.values())
    return {
        "n": len(images),
        "wavering": asdict(Mean.of(torch.cat(wavering))),
        "linearity": typical(torch.cat(gaps)),
        **{name: asdict(Mean.of(found)) for name, found in zip(around, moved, strict=True)},
    }
