"""What is attacked, and where: images and labels as they must be, the device, the fixed batch shape."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paradise_cli.attacks.classifier import Function
from paradise_cli.attacks.engine import Compute
from paradise_cli.data.streaming import worker_count
from paradise_cli.errors import ParadiseError, UsageError
from paradise_cli.training.hardware import Precision, choose_precision


def choose_compute(
    device: torch.device, size: Sequence[int], precision: str = "auto", batch_size: int | None = None
) -> Compute:
    """The fixed batch shape for images of this height and width, and how many such batches are under way.

    On a CPU a batch for each core, on a GPU one that fills it; `batch_size` asks for another number of images
    in all, rounded up to whole batches.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"unknown precision '{precision}'; known: auto, fp32, bf16")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    pixels = size[0] * size[1]
    on_cpu = device.type == "cpu"
    width = int(np.clip((2**16 if on_cpu else 2**20) // pixels, 8, 64 if on_cpu else 1024))
    blocks = (worker_count() if on_cpu else 1) if batch_size is None else -(-batch_size // width)
    kind: Precision = choose_precision(precision, device)  # type: ignore[arg-type]
    return Compute(device, width, blocks, kind)


def checked_images(images: Tensor | NDArray[Any]) -> Tensor:
    """Images as float32 in [0, 1] on the CPU."""
    found = torch.as_tensor(images).detach().cpu()
    if found.ndim != 4 or len(found) == 0:
        raise ParadiseError(
            f"images of shape {list(found.shape)}: [N, C, H, W] with N of 1 or more is needed"
        )
    if found.dtype == torch.uint8:
        return found.float() / 255
    if not found.is_floating_point():
        raise ParadiseError(f"pixels of type {found.dtype}: float in [0, 1] or uint8 is needed")
    low, high = float(found.min()), float(found.max())
    if not (low >= 0 and high <= 1):  # also for NaN
        raise ParadiseError(
            f"pixels run from {low:g} to {high:g}, but must lie in [0, 1]: undo any normalisation, which"
            " belongs into the classifier, and divide by 255 what is 0 to 255"
        )
    return found.float().contiguous()


def checked_labels(labels: Tensor | NDArray[Any], n: int) -> Tensor:
    found = torch.as_tensor(labels).detach().cpu()
    if found.shape != (n,) or found.is_floating_point() or found.dtype == torch.bool:
        raise ParadiseError(
            f"labels of type {found.dtype} and shape {list(found.shape)}: {n} integers are needed"
        )
    return found.long()


def device_of(classifier: Function, device: torch.device | str | None) -> torch.device:
    """The device asked for, or that of the classifier's weights."""
    if device is not None:
        return torch.device(device)
    weights = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device
