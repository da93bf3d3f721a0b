"""What a training would cost: a few of its steps on random data, before any data is read."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from paradise_cli.build import (
    build_average,
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
    check_validation,
    check_views,
    epochs_of,
)
from paradise_cli.core.errors import UsageError
from paradise_cli.core.machine import choose_device
from paradise_cli.core.units import SUSTAINED, counted
from paradise_cli.data import DataInfo, batches, synthetic
from paradise_cli.inference.feature_views import feature_views
from paradise_cli.inference.features import behind_backbone
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.frozen import Frozen
from paradise_cli.recipe.schema import Recipe
from paradise_cli.runs.initial_weights import start_from
from paradise_cli.runs.memory import check_memory
from paradise_cli.runs.precision import in_sound_precision
from paradise_cli.runs.work import Work, work_of
from paradise_cli.training.step import Plan, Step, batch_of, steps_per_epoch

WARM_UP = 2  # steps that also allocate memory, choose kernels and compile
_FEATURED = 16  # images whose features are timed at once


@dataclass(frozen=True)
class Estimate:
    """What a training would cost, measured on a few steps of random data.

    `features_seconds` are those of a frozen backbone, once, if none of its features are kept yet
    and apart from reading; `trainings` counts the alphas of `train.frontier`.
    """

    parameters: int
    epochs: int
    steps_per_epoch: int
    seconds_per_epoch: float
    memory_bytes: int
    device: str
    precision: str
    data: str
    init: str | None
    work: Work
    operations: float
    features_seconds: float
    trainings: int

    @property
    def seconds(self) -> float:
        """Of all that is computed."""
        return self.features_seconds + self.trainings * self.epochs * self.seconds_per_epoch

    @property
    def seconds_per_step(self) -> float:
        return self.seconds_per_epoch / self.steps_per_epoch

    @property
    def gpu_hours(self) -> float:
        """Of all trainings, at `SUSTAINED` operations a second: a reckoning, not a measurement."""
        return self.operations / SUSTAINED / 3600


def dry_run(recipe: Recipe, device: str = "auto", steps: int = 5) -> Estimate:
    """Measure a few training steps on random data of the recipe's shape; no data set is read.

    Weights to start from are read, so that what does not fit is found before the training. Raises
    UsageError or ParadiseError as the training would.
    """
    where = choose_device(device)
    info = build_info(recipe)
    check_memory(recipe, info, where)
    check_views(recipe, info)
    check_validation(recipe, info)
    data = f"{info.label}: {counted(info.train_size, 'image')} {'x'.join(map(str, info.shape))}"
    whole = build_model(recipe, info).to(where)
    features_seconds = _features_seconds(recipe, whole, info, where)
    model, info = behind_backbone(whole, info)
    objective = build_objective(recipe, info).to(where)
    init = None
    if recipe.train.init is not None:
        init = start_from(model, recipe, info, recipe.train.init)
    recipe = in_sound_precision(recipe, model, info.shape, where)
    plan = build_plan(recipe, model, where)
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    kept = trained_on(recipe, info)
    average = build_average(recipe, model, kept)
    images = batch_of(kept, plan.batch_size)
    require_division(plan.accumulate, images, 1)
    step = Step(model, objective, optimizer, plan, where, average)
    seconds = _seconds_a_step(step, plan, info, where, images, steps)
    per_epoch = steps_per_epoch(kept, plan.batch_size)
    epochs = epochs_of(recipe, kept)
    work = work_of(recipe)
    trainings = len({recipe.objective.alpha, *recipe.train.frontier})
    return Estimate(
        parameters=sum(p.numel() for p in model.parameters()),
        epochs=epochs,
        steps_per_epoch=per_epoch,
        seconds_per_epoch=seconds * per_epoch,
        memory_bytes=_peak_memory(where),
        device=str(where),
        precision=plan.precision,
        data=data,
        init=init,
        work=work,
        operations=work.operations * per_epoch * images * epochs * trainings,
        features_seconds=features_seconds,
        trainings=trainings,
    )


def require_division(parts: int, batch_size: int, world: int) -> None:
    """Raise UsageError where a batch cannot be computed in so many equal parts by each process."""
    if parts > 1 and batch_size % (parts * world):
        raise UsageError(
            f"train.accumulate: {parts} parts in {counted(world, 'process', 'processes')} do not"
            f" divide a batch of {batch_size:,}: change one of them"
        )


def planned_epochs(recipe: Recipe) -> int:
    """How many epochs the recipe takes on its data, which are looked at only if that depends on
    them.
    """
    if recipe.train.min_steps == 0:
        return recipe.train.epochs
    return epochs_of(recipe, trained_on(recipe, build_info(recipe)))


def trained_on(recipe: Recipe, info: DataInfo) -> int:
    """How many images are trained on."""
    # Data with a validation split of their own are trained on whole, as in `hold_out`.
    held_out = 0 if info.own_validation else round(recipe.data.validation * info.train_size)
    return info.train_size - held_out


def _features_seconds(
    recipe: Recipe, model: StochasticEncoder, info: DataInfo, device: torch.device
) -> float:
    """Seconds of a frozen backbone's pass over all images and their views; 0 without one."""
    backbone = model.backbone
    if not isinstance(backbone, Frozen):
        return 0.0
    split = synthetic(info, _FEATURED).train
    (images,) = split.fetch(torch.arange(_FEATURED), _FEATURED, (), False)
    images = images.to(device)

    def compute(_: int) -> None:
        backbone(images)

    others = feature_views(recipe).count - 1
    passes = info.train_size + others * trained_on(recipe, info)
    return passes / _FEATURED * _median_seconds(compute, 3, device)


def _seconds_a_step(
    step: Step, plan: Plan, info: DataInfo, device: torch.device, images: int, steps: int
) -> float:
    """Median seconds of one training step on so many images, reading them included."""
    # One batch of the recipe's shape, read anew for each step as a training would.
    split = synthetic(info, images).train.to(device)

    def take(number: int) -> None:
        (batch,) = batches(
            split,
            order=torch.arange(len(split)),
            batch_size=images,
            device=device,
            augment=plan.augment,
            train=True,
        )
        step(batch, number)

    return _median_seconds(take, steps, device)


def _median_seconds(run: Callable[[int], None], times: int, device: torch.device) -> float:
    """Median seconds of a call, which is told how many were before it."""
    found = []
    for number in range(WARM_UP + times):
        started = time.perf_counter()
        run(number)
        # The GPU works on while the host would already look at its clock.
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found[WARM_UP:])


def _peak_memory(device: torch.device) -> int:
    """The most bytes held so far, on the GPU or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In kilobytes, but for macOS.
    return peak if sys.platform == "darwin" else 1024 * peak
