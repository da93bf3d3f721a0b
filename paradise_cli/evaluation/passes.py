"""Every image of a split once through a model, at one shape and in fp32."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from paradise_cli.core.machine import full_fp32
from paradise_cli.core.randomness import generator
from paradise_cli.core.shares import ALONE, Processes
from paradise_cli.data.base import Batch, Split, batches, on_device
from paradise_cli.evaluation.metrics import TaskScores
from paradise_cli.inference.batches import block_size
from paradise_cli.information.gaussian import Gaussian, joined
from paradise_cli.models import StochasticEncoder

Progress = Callable[[int], None]


def posteriors(
    model: StochasticEncoder, split: Split, device: torch.device, progress: Progress | None = None
) -> Gaussian:
    """The posterior of every image of a split, in fp32 on `device`, [N, K]."""
    return one_pass(model.to(device), split, device, [], None, progress)


def one_pass(
    model: StochasticEncoder,
    split: Split,
    device: torch.device,
    scores: Sequence[TaskScores],
    seed: int | None,
    progress: Progress | None,
    view: Callable[[Batch], Tensor] | None = None,
    processes: Processes = ALONE,
) -> Gaussian:
    """Every image once through the model, at one shape: its posterior, and the tasks' scores.

    The shape is that of encoding, so that both give the same posteriors. Without a seed the scores
    are those of z = mu only. With a `view` the model sees what that makes of each image. Several
    `processes` have some of the batches each, and all find the same.
    """
    rows = block_size(model.in_shape)
    blocks = range(0, len(split), rows)
    processes = processes.among(len(blocks))
    starts = processes.own(blocks)
    # Kept on the device: one copy at the end, not a wait for each batch.
    found: list[Gaussian] = []
    order = torch.arange(starts[0], min(starts[-1] + rows, len(split)))
    with _frozen(model, device):
        read = batches(split, order=order, batch_size=rows, device=device)
        for start, batch in zip(starts, read, strict=True):
            n = len(batch.images)
            images = batch.images if view is None else view(batch)
            # Padded: the last batch too has the one shape, whose rounding all images share.
            posterior = model.encode(pad(images, (0, 0) * 3 + (0, rows - n)))
            found.append(posterior.rows(slice(n)))
            if scores:
                at_mean = model.decode(posterior.mu)
                at_sample = {}
                if seed is not None:
                    noise = noise_of(seed, start, rows, model)
                    at_sample = model.decode(posterior.rsample(on_device(noise, device)))
                for score in scores:
                    name, sampled = score.task.name, at_sample.get(score.task.name)
                    sampled = None if sampled is None else sampled[:n]
                    score.add(at_mean[name][:n], sampled, batch.images, batch.labels)
            if progress:
                progress(n * processes.world)
        for score in scores:
            score.join(processes)
        posterior = joined(found)
        return type(posterior)(*(processes.joined(each) for each in posterior))


def noise_of(seed: int, first: int, rows: int, model: StochasticEncoder) -> Tensor:
    """The noise of `rows` images from number `first` on, [rows, K], however they are batched."""
    # So many images shared a draw before batches were as small as now: their numbers stay.
    shared = 256 if math.prod(model.in_shape) <= 3 * 64 * 64 else 32
    draws = range(first // shared, (first + rows - 1) // shared + 1)
    size = (shared, model.latent_dim)
    noise = torch.cat(
        [torch.randn(size, generator=generator(seed, "evaluate", draw)) for draw in draws]
    )
    offset = first - draws[0] * shared
    return noise[offset : offset + rows]


@contextmanager
def _frozen(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradients, and on CUDA no TF32; afterwards each module's own mode again."""
    # Each by itself: a frozen part of a model in training stays frozen.
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode(), full_fp32(device):
            yield
    finally:
        for module in training:
            module.training = True
