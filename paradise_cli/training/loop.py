"""The one training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from paradise_cli.core.errors import Interrupted
from paradise_cli.core.randomness import permutation
from paradise_cli.core.shares import Share
from paradise_cli.data.base import Split, batches
from paradise_cli.models import StochasticEncoder
from paradise_cli.objective.objective import Objective
from paradise_cli.training.average import Average
from paradise_cli.training.checkpoint import Checkpoints, Saved, State, trained_modules
from paradise_cli.training.step import Plan, Step, batch_of, epochs_for, steps_per_epoch

CHECK_SECONDS = 1.0  # between two looks at the loss, for which the host waits
EPOCH_SECONDS = 1.0  # between two checkpoints at ends of epochs: to write one takes 20 ms


class Reporter:
    """What a training tells of its progress; this one shows nothing."""

    def progress(self, step: int, total: int, terms: dict[str, float]) -> None:
        """About once a second: steps done, and the means of the running epoch."""

    def epoch(self, record: dict[str, Any]) -> None:
        """After each epoch: its record."""

    def evaluation(self, done: int, total: int) -> None:
        """While the finished model is evaluated: how much of it is done."""

    def say(self, text: str) -> None:
        """One line: where and how the training runs, or a warning that does not stop it."""


@dataclass(frozen=True)
class Validation:
    """Measurements on validation data, and for each kind of weights the score that chooses its
    best: see `Best`.
    """

    metrics: dict[str, float]
    scores: dict[str, tuple[float, ...]]


@dataclass
class Fit:
    """A training: what is trained and how, where it goes on from, and what it reports to."""

    model: StochasticEncoder
    objective: Objective
    optimizer: Optimizer
    plan: Plan
    device: torch.device
    report: Reporter
    average: Average | None = None
    saved: Saved | None = None
    checkpoints: Checkpoints | None = None
    validate: Callable[[], Validation] | None = None
    keep_best: Callable[[str, int], None] = lambda kind, step: None
    stop: Callable[[], bool] = lambda: False
    rank: int = 0
    world: int = 1

    def run(self, train: Split) -> State:
        """Train to the end of the plan, from its beginning or from what was `saved`.

        Data order, augmentation and noise are functions of (seed, epoch, step), so that a resumed
        training takes the very steps of an uninterrupted one. Raises Interrupted when `stop` says
        so, NonFinite when a term of the loss is not finite; both leave a good checkpoint. Of
        several processes each is `rank` of `world`, all ask `stop` alike, and all end alike.
        """
        plan, device = self.plan, self.device
        step = Step(self.model, self.objective, self.optimizer, plan, device, self.average)
        train = train.to(device)
        state = self._begin(train)
        batch_size = batch_of(len(train), plan.batch_size)
        share = Share(batch_size, self.rank, self.world)
        per_epoch = steps_per_epoch(len(train), batch_size)
        total = epochs_for(plan.epochs, plan.min_steps, per_epoch) * per_epoch
        base_rates = [group["lr"] for group in self.optimizer.param_groups]
        clock = _Clock(plan.checkpoint_seconds, state.seconds)
        while state.step < total:
            epoch, start = divmod(state.step, per_epoch)
            self.model.train()
            self.objective.train()
            order = permutation(len(train), plan.seed, "order", epoch)
            # The last, smaller batch is left out: the rate's cap depends on the size of a batch.
            of_epoch = partial(
                batches, train, order=order, batch_size=batch_size, device=device,
                augment=plan.augment, key=(plan.seed, epoch), train=True, drop_last=True,
            )  # fmt: skip
            for batch in of_epoch(start=start, share=share):
                # A function of the step, so that nothing of the schedule need be saved.
                for group, rate in zip(self.optimizer.param_groups, base_rates, strict=True):
                    group["lr"] = rate * plan.schedule(state.step, per_epoch, total)
                state.observe(step(batch, state.step, share))
                state.step += 1
                # Looking at a term waits for the device, so it is done seldom.
                if clock.check_due():
                    done = (state.step - 1) % per_epoch + 1
                    self.report.progress(state.step, total, state.means(done))
                # The end of an epoch saves after its validation.
                if state.step % per_epoch:
                    self._look_up(state, clock, total, clock.save_due())
            # As many images at once as a process takes in a step: more may not fit.
            at_once = max(1, batch_size // (self.world * plan.accumulate))
            step.settle(of_epoch(batch_size=at_once), state.step)
            self._end_epoch(state, epoch, per_epoch, batch_size, clock)
            due = state.step == total or clock.save_due(EPOCH_SECONDS)
            self._look_up(state, clock, total, due)
        return state

    def _begin(self, train: Split) -> State:
        """The state of the checkpoint to go on from, else that before the first step."""
        if self.saved is not None:
            return self.saved.restore(self._modules(), self.optimizer, self.device)
        rate = self.objective.rate
        if rate is not None and rate.examples:
            # A learned q begins from training images, from the first again where it wants more.
            rows = torch.arange(rate.examples) % len(train)
            order = permutation(len(train), self.plan.seed, "examples")[rows]
            (batch,) = batches(train, order=order, batch_size=len(order), device=self.device)
            rate.start(batch.images)
        return State.new(self.device)

    def _modules(self) -> dict[str, nn.Module]:
        averaged = None if self.average is None else self.average.model
        return trained_modules(self.model, self.objective, averaged)

    def _look_up(self, state: State, clock: "_Clock", total: int, due: bool) -> None:
        """Save where it is due, and end where a stop is asked for."""
        # Asked at each step and once: all processes must ask alike, whoever saves.
        stop = self.stop()
        if stop or due:
            state.seconds = clock.seconds()
            if self.checkpoints:
                self.checkpoints.save(state, self._modules(), self.optimizer)
        if stop and state.step < total:
            raise Interrupted(
                f"at step {state.step} of {total}; the same command goes on from there"
            )

    def _end_epoch(
        self, state: State, epoch: int, per_epoch: int, batch_size: int, clock: "_Clock"
    ) -> None:
        """Report the epoch, validate, and keep the weights if they are the best so far."""
        record = {
            "epoch": epoch + 1,
            "step": state.step,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        record |= {"train": state.means(per_epoch), "seconds": clock.seconds()}
        record |= rate_record(self.objective, batch_size)
        if self.validate:
            validation = self.validate()
            record["validation"] = validation.metrics
            for kind in state.improved(validation.scores):
                self.keep_best(kind, state.step)
        self.report.epoch(record)
        state.start_epoch()


def rate_record(objective: Objective, batch_size: int) -> dict[str, Any]:
    """What the epoch's mean rate bounds, its cap, and from where on it has no gradient."""
    rate = objective.rate
    if rate is None:
        return {}
    record: dict[str, Any] = {"rate_bound": rate.bound, "rate_of": rate.estimand}
    # The mean over batches can be at most what each batch can reach.
    cap = rate.cap(batch_size)
    if math.isinf(cap):
        return record
    return record | {"rate_cap": cap, "rate_inert": cap - rate.inert_margin}


class _Clock:
    """Seconds of training so far, and what is due."""

    def __init__(self, save_every: float, before: float) -> None:
        now = time.monotonic()
        self._save_every = save_every
        self._started = now - before  # as if the training had never stopped
        self._checked = self._saved = now

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def check_due(self) -> bool:
        due = time.monotonic() - self._checked >= CHECK_SECONDS
        self._checked = time.monotonic() if due else self._checked
        return due

    def save_due(self, seconds: float = math.inf) -> bool:
        """Whether so many seconds have passed, or those of the plan."""
        due = time.monotonic() - self._saved >= min(seconds, self._save_every)
        self._saved = time.monotonic() if due else self._saved
        return due
