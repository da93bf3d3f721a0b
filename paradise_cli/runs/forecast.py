"""What a training would take in several processes, or on another device: reckoned, not measured."""

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paradise_cli.build import build_info, build_model, build_objective, epochs_of
from paradise_cli.core.machine import choose_device
from paradise_cli.core.modes import running_statistics
from paradise_cli.core.shares import Share
from paradise_cli.core.units import SUSTAINED
from paradise_cli.data import batches, synthetic
from paradise_cli.inference.features import behind_backbone
from paradise_cli.recipe.schema import Recipe
from paradise_cli.runs.estimate import dry_run, require_division, trained_on
from paradise_cli.runs.processes import require_enough_images, require_separable
from paradise_cli.training.step import batch_of, steps_per_epoch

FLOAT = 4  # bytes of what is sent
_ROW = 3 * 8  # bytes of the rate's matrix: itself, its exponentials and its gradient in float64
_TRIAL_STEPS = 2
_FEWEST = 2  # images of a step whose time is the host's
_COUNTED = 8  # images in the batch on which is counted
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """A kind of device: what it keeps up, and how fast several of them hear of each other.

    Operations a second, bytes of memory, and bytes a second to others of one machine, of which
    there are `beside`, and of other machines.
    """

    operations: float
    memory: float
    link: float
    network: float
    beside: int = 8


PLACES = {"h100": Place(SUSTAINED, 80e9, 450e9, 50e9)}
"""By NVIDIA's data sheet (SXM5: NVLink 900 GB/s both ways together) and a network of 400 Gbit/s."""


@dataclass(frozen=True)
class Forecast:
    """One step and all of a training, for each of `world` processes that take `images` of a batch.

    Seconds of a step are those to compute, those that the host takes at most (measured here, None
    on this very device, where `computing` is measured), and those that what is sent takes.
    """

    device: str
    world: int
    images: int
    batch_size: int
    steps: int
    epochs: int
    memory_bytes: int
    memory_of: float | None
    bytes_sent: float
    computing: float
    host: float | None
    sending: float | None

    @property
    def step_seconds(self) -> float:
        """The host works while the device computes; what is sent is waited for."""
        return max(self.computing, self.host or 0.0) + (self.sending or 0.0)

    @property
    def hours(self) -> float:
        return self.step_seconds * self.steps * self.epochs / 3600

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        reckoned = {"step_seconds": self.step_seconds, "hours": self.hours}
        return asdict(self) | reckoned | {"estimate": True}


def forecast(recipe: Recipe, device: str, world: int) -> Forecast:
    """Reckon from trial steps here, of a process's share of a batch, on random data.

    `device` is one of `PLACES`, or one of this machine. Raises UsageError or ParadiseError as the
    training would.
    """
    info, train = build_info(recipe), recipe.train
    kept = trained_on(recipe, info)
    batch_size = batch_of(kept, train.batch_size)
    require_enough_images(batch_size, world)
    require_division(train.accumulate, batch_size, world)
    images = -(-batch_size // world)
    place = PLACES.get(device)
    require_separable(recipe, "cuda" if place else choose_device(device).type, world)
    # What is reckoned for another device is counted here, whatever there is.
    here = "cpu" if place else device
    # Normalisation by a batch needs two images.
    trial = dry_run(recipe.with_train(batch_size=max(_FEWEST, images)), here, _TRIAL_STEPS)
    shared = shared_numbers(recipe)
    sent = bytes_sent(shared, batch_size, world)
    per_epoch = steps_per_epoch(kept, train.batch_size)
    computing, host, sending = trial.seconds_per_step, None, None
    if place is not None:
        # Two images are hardly computed: what such a step takes is the host's own.
        few = recipe.with_train(batch_size=_FEWEST, accumulate=1)
        host = dry_run(few, here, _TRIAL_STEPS).seconds_per_step
        computing = trial.work.operations * images / place.operations
        sending = sent / (place.link if world <= place.beside else place.network)
    return Forecast(
        device=device if place else trial.device,
        world=world,
        images=images,
        batch_size=batch_size,
        steps=per_epoch,
        epochs=epochs_of(recipe, kept),
        memory_bytes=trial.memory_bytes + _of_others(recipe, shared, batch_size, images),
        memory_of=None if place is None else place.memory,
        bytes_sent=sent,
        computing=computing,
        host=host,
        sending=sending,
    )


class Shared(NamedTuple):
    """How many numbers processes share in a step: of all that is `learned`, with the running
    statistics, and `gathered` from each image.
    """

    learned: int
    gathered: int


@dataclass(frozen=True)
class _Counting(Share):
    """A whole batch, which counts the numbers that several processes would gather of it."""

    messages: list[int] = field(default_factory=list)

    def gathered(self, *own: Tensor) -> tuple[Tensor, ...]:
        self.messages.append(sum(each.numel() for each in own))
        return own


def shared_numbers(recipe: Recipe) -> Shared:
    """Counted in the loss of a few random images: what compares them decides what is gathered."""
    info = build_info(recipe)
    model, info = behind_backbone(build_model(recipe, info), info)
    objective = build_objective(recipe, info)
    split = synthetic(info, _COUNTED).train
    (batch,) = batches(split, order=torch.arange(_COUNTED), batch_size=_COUNTED, device=_CPU)
    # How a view differs from the image changes no shape.
    views = [batch.images] * len(recipe.views)
    noise = torch.zeros(len(views) * _COUNTED, model.latent_dim)
    share = _Counting(_COUNTED)
    objective(model, views, batch.labels, noise, None, share)
    learned = [*model.parameters(), *objective.parameters(), *running_statistics(model)]
    return Shared(sum(each.numel() for each in learned), sum(share.messages) // _COUNTED)


def bytes_sent(shared: Shared, batch_size: int, world: int) -> float:
    """What a process sends in a step, where sums and gathered rows go round in a ring.

    The gradients of all parameters and the running statistics are summed; what is gathered of own
    images is sent to all, and the gradients of that of all images summed.
    """
    rows = batch_size * shared.gathered
    # Around the ring a sum travels twice, rows that are gathered once.
    return FLOAT * (world - 1) / world * (2 * (shared.learned + rows) + rows)


def _of_others(recipe: Recipe, shared: Shared, batch_size: int, images: int) -> int:
    """Bytes of what a process knows of others' images: what is gathered of them and its gradients,
    and its rows of the rate between all.
    """
    rows = _ROW * images * len(recipe.views) if recipe.model.stochastic else 0
    return batch_size * (2 * FLOAT * shared.gathered + rows)
