"""One training step: a batch and its number in, the terms of the loss out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paradise_cli.core.machine import Precision
from paradise_cli.core.modes import running_statistics, running_statistics_anew
from paradise_cli.core.randomness import image_keys, seed_of
from paradise_cli.core.shares import Share
from paradise_cli.data.base import Augmentation, Batch, on_device
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.objective.objective import Objective, Task
from paradise_cli.perturbations import SAMPLERS, Sampler
from paradise_cli.perturbations.samplers import unchanged
from paradise_cli.training.average import Average
from paradise_cli.training.optim import Schedule

SETTLING = 10
"""Of how many batches the statistics of averaged weights are."""


def batch_of(images: int, batch_size: int) -> int:
    """How many images a batch of a training on so many has: of fewer than asked for, all."""
    # Of what a file says of itself there may be none.
    return max(1, min(batch_size, images))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many steps an epoch of so many images takes."""
    # The last, smaller batch is left out.
    return max(1, images // batch_size)


def epochs_for(epochs: int, min_steps: int, per_epoch: int) -> int:
    """The epochs asked for, and more where they take fewer than `min_steps` steps."""
    # Those of a few photos would be over before anything was learnt.
    return max(epochs, -(-min_steps // per_epoch)) if epochs else 0


@dataclass(frozen=True)
class View:
    """How one view is drawn: around the image, or around a view drawn before it."""

    sampler: Sampler
    around: int | None = None


@dataclass(frozen=True)
class Plan:
    """How a training runs: all that is not a model, an objective, an optimiser or data."""

    epochs: int
    batch_size: int
    seed: int
    schedule: Schedule
    augment: Sequence[Augmentation] = ()
    views: Sequence[View] = (View(SAMPLERS["image"]()),)
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    clip: float | None = None
    accumulate: int = 1
    checkpoint_seconds: float = 300.0
    min_steps: int = 0


def draw_views(
    views: Sequence[View],
    model: StochasticEncoder,
    task: Task | None,
    batch: Batch,
    *key: int | str,
) -> list[Tensor]:
    """Each view of a batch's images, [B, C, H, W], for a model that is judged by `task`, if any.

    What is drawn for an image is a function of its row, the key and the view.
    """
    # Most trainings see the images alone: keys that nobody reads would be a tenth of a small step.
    if all(view.sampler is unchanged for view in views):
        return [batch.images] * len(views)
    encoder = EncoderWithHead(model, None if task is None else model.heads[task.name])
    # Data without labels have no column that could be read.
    unlabelled = torch.full_like(batch.index, -1)
    labels = unlabelled if task is None else batch.labels[:, task.target]
    drawn: list[Tensor] = []
    for number, view in enumerate(views):
        source = batch.images if view.around is None else drawn[view.around]
        keys = image_keys(batch.index, "view", number, *key)
        drawn.append(view.sampler(source, labels, encoder, keys))
    return drawn


class Step:
    """One update of a model and its objective, and of the average of its weights if there is one.

    All that a step draws is a function of the plan's seed and the step's number, so that a resumed
    training and every device take the same steps. Making one puts the model in the plan's layout.
    """

    def __init__(
        self,
        model: StochasticEncoder,
        objective: Objective,
        optimizer: Optimizer,
        plan: Plan,
        device: torch.device,
        average: Average | None = None,
    ) -> None:
        layout = torch.channels_last if plan.channels_last else torch.preserve_format
        self.model = model.to(memory_format=layout)
        self.average = average
        if average is not None:
            average.model.to(memory_format=layout)
        self.optimizer = optimizer
        self.plan = plan
        self.device = device
        self.objective = objective
        self._draw = torch.Generator()  # seeded anew by each step
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16")

        def loss_of(
            views: Sequence[Tensor],
            labels: Tensor,
            noise: Tensor,
            warm_up: Tensor | None,
            share: Share,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            with autocast:
                found: tuple[Tensor, dict[str, Tensor]] = objective(
                    model, views, labels, noise, warm_up, share
                )
                return found

        self._autocast = autocast
        # Shapes never change within a training, so one graph of fixed shapes is enough.
        self._loss_of = (
            torch.compile(loss_of, fullgraph=True, dynamic=False) if plan.compile else loss_of
        )

    def __call__(self, batch: Batch, number: int, share: Share | None = None) -> dict[str, Tensor]:
        """Take step `number`; the raw terms stay on the device, which the host never waits for.

        Of several processes each has its `share` of the batch, and all take the same step.
        """
        share = share or Share(len(batch.images))
        # Also of what an adversarial view is crafted with.
        self._seed_dropout(number, share.rank)
        # None, not zeros: the first backward pass then writes instead of adding.
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._backward(batch, number, share)
        self._agree(share)
        if self.plan.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(number + 1)
        return terms

    def _backward(self, batch: Batch, number: int, share: Share) -> dict[str, Tensor]:
        """Add up the gradients of the batch's parts; the terms of the whole batch."""
        noise = self.noise(len(self.plan.views), share, number)
        warm_up = self.objective.warm_up(number)
        if warm_up is not None:
            warm_up = on_device(warm_up, self.device)

        def terms_of(part: Batch, noise: Tensor, share: Share, parts: int) -> dict[str, Tensor]:
            views = self.views(part, number)
            loss, terms = self._loss_of(views, part.labels, noise.flatten(0, 1), warm_up, share)
            (loss if parts == 1 else loss / parts).backward()  # type: ignore[no-untyped-call]
            return terms

        parts = self.plan.accumulate
        if parts == 1:
            return terms_of(batch, noise, share, 1)
        size = share.size // parts
        part_share = Share(share.total // parts, share.rank, share.world)
        found = []
        for first in range(0, size * parts, size):
            rows = slice(first, first + size)
            part = Batch(*(each[rows] for each in batch))
            found.append(terms_of(part, noise[:, rows], part_share, parts))
        # Parts are equally large, and every term is a mean over images.
        return {name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}

    def _agree(self, share: Share) -> None:
        """Give all processes the gradients of the whole batch, and the same running statistics."""
        if share.world == 1:
            return
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        # Batch normalisation saw the own rows alone: what it keeps is averaged.
        kept = running_statistics(self.model)
        for each in kept:
            each.mul_(share.size / share.total)
        share.sum_into([*(each.grad for each in parameters if each.grad is not None), *kept])

    def _seed_dropout(self, number: int, rank: int) -> None:
        """Dropout layers know no generator but the device's own global one."""
        seed = seed_of(self.plan.seed, "dropout", number, rank)
        # Not torch.manual_seed: it seeds every kind of device there is, and formats the whole stack
        # for those that have not been used yet, a fifth of a small step's time.
        if self.device.type == "cuda":
            index = self.device.index
            place = torch.cuda.current_device() if index is None else index
            torch.cuda.default_generators[place].manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    @torch.no_grad()
    def settle(self, train: Iterable[Batch], number: int) -> None:
        """Estimate the average's statistics of batch normalisation anew, on a few batches' views.

        Those of the plain weights suit another network: under attack a ResNet-20 lost up to nine
        points by them (method.md 4.5). All processes see the same batches.
        """
        if self.average is None or not running_statistics(self.average.model):
            return
        averaged = self.average.model
        self._seed_dropout(number, 0)
        with running_statistics_anew(averaged):
            for batch in islice(train, SETTLING):
                views = self.views(batch, number)
                noise = self.noise(len(views), Share(len(batch.images)), number)
                with self._autocast:
                    averaged(torch.cat(views), noise.flatten(0, 1))

    def views(self, batch: Batch, number: int) -> list[Tensor]:
        """The views of each image that the objective compares, drawn for step `number`.

        What is drawn for an image is a function of the seed, the image and the step.
        """
        # Already before: an adversarial view puts images through the network.
        batch = batch._replace(images=self._laid_out(batch.images))
        key = (self.plan.seed, number)
        with self._autocast:
            drawn = draw_views(self.plan.views, self.model, self.objective.judged, batch, *key)
        return [self._laid_out(view) for view in drawn]

    def _laid_out(self, images: Tensor) -> Tensor:
        # In the layout of the weights, or every convolution would convert them.
        if self.plan.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def noise(self, views: int, share: Share, number: int) -> Tensor:
        """The latent noise of step `number` for V views of the own rows, [V, b, K].

        An image's is the same on every device and in every share.
        """
        # Drawn on the CPU: a GPU's generator would give other numbers.
        draw = self._draw.manual_seed(seed_of(self.plan.seed, "noise", number))
        drawn = torch.randn(views, share.total, self.model.latent_dim, generator=draw)
        return on_device(drawn[:, share.rows], self.device)
