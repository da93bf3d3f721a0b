"""How far a classifier's logits jump at its decision boundaries (method.md 5.5, row 15).

Where the class changes, the two best logits of a continuous classifier are equal. One that hides
its gradients behind steps, or takes its class from somewhere else, changes it while they are apart.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from paradise_cli.attacks.engine.classifier import logit_spread

HALVINGS = 44
"""Of the way between two images: 24 settle a float32 of full size, and the rest the small ones."""
_HALF_TYPES = (torch.bfloat16, torch.float16)


class Jumps(NamedTuple):
    """The jump at the boundary between each pair of images, as a share of the spread; [P] each.

    `resolution` is the distance of neighbouring logits in the number type in which they are given.
    """

    size: Tensor
    resolution: Tensor


def boundary_jumps(judge: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> Jumps:
    """Bisect between P pairs of images [P, C, H, W], each of two classes, to the boundary.

    `judge` gives the logits [P, classes] of as many images. The size of a jump is the larger margin
    by which the two sides of the boundary are of their classes.
    """
    # Always all pairs at once: the classifier is asked in full batches of one shape.
    first = judge(one)
    label = first.argmax(1)
    near, far = one, other
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        if bool(((middle == near) | (middle == far)).all()):
            break  # the two sides are neighbours in every pixel
        same = (judge(middle).argmax(1) == label).view(-1, 1, 1, 1)
        near = torch.where(same, middle, near)
        far = torch.where(same, far, middle)
    sides = torch.stack([judge(near), judge(far)])  # [2, P, classes]
    # Of a jump either side may be the sure one.
    top = sides.topk(2, 2).values
    margin = (top[..., 0] - top[..., 1]).amax(0)
    scale = logit_spread(first)
    return Jumps(margin / scale, _resolution(sides) / scale)


def _resolution(sides: Tensor) -> Tensor:
    """The distance of neighbouring numbers about the best logits, [P]."""
    best = sides.amax((0, 2)).abs()
    for kind in _HALF_TYPES:
        if bool((sides.to(kind).to(sides.dtype) == sides).all()):
            return torch.finfo(kind).eps * best
    return torch.finfo(sides.dtype).eps * best
