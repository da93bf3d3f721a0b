"""Crops and flips of whole batches on their device: one decision per image."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.core.registry import Registry
from paradise_cli.data.base import Augmentation

MOST_PAD = 1024  # pixels: more than a side of most images is a slip
AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")


def _reflected(size: int, pad: int, device: torch.device) -> Tensor:
    """Which of `size` pixels lies at each place of an axis reflected by `pad` without its edge."""
    place = torch.arange(-pad, size + pad, device=device).abs()
    return (size - 1) - (place - (size - 1)).abs()


@AUGMENTATIONS.register
def crop(*, pad: int = 4, mode: Literal["zero", "reflect"] = "zero") -> Augmentation:
    """Pad every side by `pad` pixels and cut the original size at a random place.

    Raises UsageError for a pad that no image has, and of images for one that reflects too much.
    """
    if not 0 <= pad <= MOST_PAD:
        raise UsageError(f"crop: pad {pad}: 0 to {MOST_PAD} pixels are allowed")

    def augmentation(images: Tensor, keys: Tensor) -> Tensor:
        b, c, h, w = images.shape
        if mode == "reflect" and pad >= min(h, w):
            raise UsageError(
                f"crop: {h} x {w} pixels cannot be reflected by {pad}; choose a pad of at most"
                f" {min(h, w) - 1}, or mode zero"
            )
        device = images.device
        places = (keyed_uniform(keys, (2,)) * (2 * pad + 1)).long()  # [B, 2]
        top, left = places.unbind(1)
        if mode == "zero":
            padded = functional.pad(images, (pad, pad, pad, pad))
        else:
            padded = images.index_select(2, _reflected(h, pad, device))
            padded = padded.index_select(3, _reflected(w, pad, device))
        # Every row of every crop is w neighbours in memory, so that all crops are one gather from a
        # view with overlapping rows: there is no loop over images, and no wait for the host.
        flat = padded.flatten()
        windows = flat.as_strided((flat.numel() - w + 1, w), (1, 1))
        plane = torch.arange(b * c, device=device).view(b, c, 1) * (h + 2 * pad)
        row = plane + top[:, None, None] + torch.arange(h, device=device)  # [B, C, H]
        start = row * (w + 2 * pad) + left[:, None, None]
        return windows.index_select(0, start.flatten()).view(b, c, h, w)

    return augmentation


@AUGMENTATIONS.register
def flip() -> Augmentation:
    """Mirror every image left to right with probability one half."""

    def augmentation(images: Tensor, keys: Tensor) -> Tensor:
        mirrored = keyed_uniform(keys, ()) < 0.5
        # Whole images are copied: to choose pixel by pixel takes a CPU three times as long.
        both = torch.stack([images, images.flip(3)]).flatten(0, 1)
        row = torch.arange(len(images), device=images.device)
        return both.index_select(0, row + len(images) * mirrored)

    return augmentation
