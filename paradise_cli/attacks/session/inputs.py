"""What is attacked, and where: images and labels as they must be, the device, the batch shape."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.introspection import modules_of
from paradise_cli.attacks.session.session import EOT_DRAWS
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.arrays import as_int64, check_bytes, check_pixels, type_of
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.given import plain_array
from paradise_cli.core.machine import Precision, choose_device, choose_precision
from paradise_cli.data.streaming import worker_count


def choose_compute(
    device: torch.device,
    size: Sequence[int],
    precision: str = "auto",
    batch_size: int | None = None,
    compiled: bool = False,
) -> Compute:
    """The batch shape for images of this height and width, and how many batches are under way.

    On a CPU a batch for each core, on a GPU one that fills it; `batch_size` asks for another number
    of images in all, rounded up to whole batches, or on a GPU for one smaller batch: a shape that
    rounds differently.
    """
    # One shape whatever is asked: kernels round differently at other batch shapes, and results
    # must not depend on how many images there are.
    pixels = size[0] * size[1]
    on_cpu = device.type == "cpu"
    kind: Precision = choose_precision(precision, device)  # type: ignore[arg-type]
    # A core is at its full speed from 16 small images on, in bf16 from 32, where the classifier is
    # not a light one (`Compute.for_work`); more lanes would stand empty.
    enough = (2**15 if kind == "bf16" else 2**14) if on_cpu else 2**20
    most = 64 if on_cpu else 1024
    width = int(np.clip(enough // pixels, 8, most))
    # So many graphs of each image are kept for a gradient of a classifier that answers at random.
    random_width = width if on_cpu else -(-width // EOT_DRAWS)
    if batch_size is not None and not on_cpu:
        width, random_width = min(width, batch_size), min(random_width, batch_size)
    blocks = (worker_count() if on_cpu else 1) if batch_size is None else -(-batch_size // width)
    widest = most if on_cpu else None
    return Compute(device, width, blocks, kind, compiled, random_width, widest, batch_size)


def checked_images(images: Tensor | NDArray[Any]) -> Tensor:
    """Images as float32 in [0, 1] on the CPU."""
    found = plain_array(images, "images")
    if found.dtype.kind != "f" and found.dtype != np.uint8:
        raise ParadiseError(f"pixels of type {type_of(found)}: float in [0, 1] or uint8 is needed")
    if found.ndim != 4 or found.size == 0:
        raise ParadiseError(
            f"images of shape {list(found.shape)}: [N, C, H, W], each of 1 or more, is needed"
        )
    if found.dtype == np.uint8:
        check_bytes(int(found.max()))
    else:
        check_pixels(float(found.min()), float(found.max()))
    # In C's order: digests are of bytes in memory, and equal images must have equal ones. A copy,
    # made by numpy: torch has neither its long floats nor those of the other byte order.
    pixels = torch.from_numpy(found.astype(np.float32, order="C"))
    return pixels.div_(255) if found.dtype == np.uint8 else pixels.clamp_(0, 1)


def checked_labels(labels: Tensor | NDArray[Any], n: int) -> Tensor:
    """Labels as int64 [n] on the CPU."""
    found = plain_array(labels, "labels")
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise ParadiseError(
            f"labels of type {type_of(found)} and shape {list(found.shape)}: {n} integers are"
            " needed"
        )
    return torch.from_numpy(as_int64(found))


def checked_examples(
    images: Tensor | NDArray[Any], labels: Tensor | NDArray[Any]
) -> tuple[Tensor, Tensor]:
    """Images float32 [N, C, H, W] in [0, 1] and their labels int64 [N], on the CPU."""
    pixels = checked_images(images)
    return pixels, checked_labels(labels, len(pixels))


def images_digest(subject: Subject) -> str:
    """A digest of the images and their labels, in their order."""
    content = "".join(subject.ids).encode() + subject.labels.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def device_of(classifier: Function, device: torch.device | str | None) -> torch.device:
    """The device asked for, by name or `auto`, or that of the classifier's weights."""
    if device is not None:
        return choose_device(str(device))
    # A classifier that was moved to a device stays there.
    weights = (weight for module in modules_of(classifier) for weight in module.parameters())
    return next((weight.device for weight in weights), torch.device("cpu"))
