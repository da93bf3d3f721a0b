"""Scores of single tasks, and the intervals around them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from paradise_cli.core.proportions import Proportion
from paradise_cli.core.shares import Processes
from paradise_cli.evaluation.cautions import confusion, label_caution
from paradise_cli.objective.distortions import Unit
from paradise_cli.objective.objective import Task

ECE_BINS = 15  # as in Guo et al. 2017, whose numbers are quoted most
TOP = 5


@dataclass(frozen=True)
class Classification:
    """Predictions from the posterior mean on n labelled images; `top5` for over 5 classes.

    `nll` and `label_entropy`, the entropy of these images' labels, are in nats.
    """

    task: str
    n: int
    classes: int
    top1: Proportion
    top5: Proportion | None
    nll: float
    ece: float
    brier: float
    label_entropy: float


@dataclass(frozen=True)
class Distortion:
    """Mean of one task's raw distortion over the n images it applies to, at sampled z and z = mu.

    Each with its standard error, these images being draws from a population; None for a single one.
    """

    task: str
    unit: Unit
    n: int
    sampled: float
    mean: float
    sampled_error: float | None
    mean_error: float | None


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = ECE_BINS) -> float:
    """sum_b (n_b/n) |accuracy_b - confidence_b|, for bins (0, 1/bins], ... of equal width; [N]."""
    confidence = confidence.double()
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    # n_b |accuracy_b - confidence_b| is the sum of differences within a bin.
    gaps = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gaps.index_add_(0, bin_of, correct.double() - confidence)
    return float(gaps.abs().sum()) / len(confidence)


class Judged(NamedTuple):
    """Per labelled image, [n]: classes ahead of the true one, -log p, confidence, Brier score."""

    rank: Tensor
    nll: Tensor
    confidence: Tensor
    brier: Tensor


def judge(logits: Tensor, labels: Tensor) -> Judged:
    """What predictions [n, classes] are worth for the true labels [n].

    Of equally probable classes the first is the prediction; logits that are not numbers are never
    right.
    """
    log_p = log_softmax(logits.double(), 1)
    true = log_p.gather(1, labels[:, None])  # [n, 1]
    earlier = torch.arange(log_p.shape[1], device=labels.device) < labels[:, None]
    # Not `log_p > true`: of numbers that are none, that would be nowhere ahead.
    ahead = ~(log_p <= true) | ((log_p == true) & earlier)
    p = log_p.exp()
    # sum_c (p_c - [c = y])^2, without the table of zeros and ones.
    brier = p.square().sum(1) - 2 * true[:, 0].exp() + 1
    return Judged(ahead.sum(1), -true[:, 0], p.amax(1), brier)


class PerExample(NamedTuple):
    """One task's values of N images, float64 [N], NaN where it does not apply.

    Distortions at z = mu and at a sampled z; of a supervised task also the class predicted at
    z = mu, int64 [N], and whether it is right, 1 or 0.
    """

    at_mean: Tensor
    at_sample: Tensor
    predicted: Tensor | None = None
    correct: Tensor | None = None


class TaskScores:
    """One task's values as batches pass, for every image that it applies to, on the device."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._at_mean: list[Tensor] = []
        self._at_sample: list[Tensor] = []
        self._applies: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._judged: list[Judged] = []
        self._labels: list[Tensor] = []
        self._classes = 0

    def add(
        self, at_mean: Tensor, at_sample: Tensor | None, images: Tensor, labels: Tensor
    ) -> None:
        """Take in a head's outputs [B, ...] at z = mu and a sampled z, and labels [B, T]."""
        distortion = self.task.distortion
        applies = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if distortion.supervised:
            labels = labels[:, self.task.target]
            applies = labels >= 0
            rows = applies.nonzero().flatten()
            # As `judge` does: of equally probable classes the first.
            self._predicted.append(log_softmax(at_mean.double(), 1).argmax(1))
            at_mean, images, labels = at_mean[rows], images[rows], labels[rows]
            at_sample = None if at_sample is None else at_sample[rows]
            self._judged.append(judge(at_mean, labels))
            self._labels.append(labels)
            self._classes = at_mean.shape[1]
        if distortion.between:
            # One view is all there is: the image is to be told by its own mean among the others.
            images = at_mean
        # For every image, also those left out, so that values can be put back in their places.
        self._applies.append(applies)
        self._at_mean.append(distortion.per_example(at_mean, images, labels).double())
        if at_sample is not None:
            self._at_sample.append(distortion.per_example(at_sample, images, labels).double())

    def join(self, processes: Processes) -> None:
        """Take in what the other processes saw, each some batches in a row."""
        if processes.world == 1:
            return

        def whole(parts: Sequence[Tensor]) -> list[Tensor]:
            return [processes.joined(torch.cat([*parts]))] if parts else []

        # Each has seen a batch or more, so that all send the same lists.
        self._at_mean = whole(self._at_mean)
        self._at_sample = whole(self._at_sample)
        self._applies = whole(self._applies)
        self._predicted = whole(self._predicted)
        self._labels = whole(self._labels)
        columns = [whole(column) for column in zip(*self._judged, strict=True)]
        self._judged = [Judged(*each) for each in zip(*columns, strict=True)]

    def mean(self) -> float:
        """Mean distortion at z = mu; as in training, 0 where the task applies to no image."""
        values = torch.cat(self._at_mean)
        return float(values.sum()) / max(len(values), 1)

    def accuracy(self) -> float:
        """Share of labelled images classified rightly, 0 where there are none."""
        rank = torch.cat([judged.rank for judged in self._judged])
        return float((rank == 0).sum()) / max(len(rank), 1)

    def per_example(self) -> PerExample:
        """The values of every image that passed, in order; a sampled z was passed for each."""
        applies = torch.cat(self._applies)

        def spread(values: Tensor) -> Tensor:
            nowhere = torch.full(
                applies.shape, math.nan, dtype=torch.float64, device=applies.device
            )
            return nowhere.masked_scatter(applies, values.double())  # [N]

        distortions = spread(torch.cat(self._at_mean)), spread(torch.cat(self._at_sample))
        if not self._judged:
            return PerExample(*distortions)
        right = torch.cat([judged.rank for judged in self._judged]) == 0
        return PerExample(*distortions, torch.cat(self._predicted), spread(right))

    def predictions(self) -> tuple[Tensor, Tensor]:
        """A supervised task's predicted classes and labels, int64 [N] each, -1: unlabelled."""
        predicted, applies = torch.cat(self._predicted), torch.cat(self._applies)
        labels = torch.full_like(predicted, -1).masked_scatter(applies, torch.cat(self._labels))
        return predicted, labels

    def confusion(self) -> Tensor:
        """How often each class was answered for each, int64 [true, answered]."""
        predicted, labels = self.predictions()
        known = labels >= 0
        return confusion(predicted[known], labels[known], self._classes)

    def caution(self, classes: Sequence[str]) -> str | None:
        """What `label_caution` says of a supervised task's predictions."""
        return label_caution(*self.predictions(), classes)

    def distortion(self) -> Distortion | None:
        """The task's distortion; None where it applies to no image."""
        sampled, mean = torch.cat(self._at_sample), torch.cat(self._at_mean)
        if len(sampled) == 0:
            return None
        return Distortion(
            task=self.task.name,
            unit=self.task.distortion.unit,
            n=len(sampled),
            sampled=float(sampled.mean()),
            mean=self.mean(),
            sampled_error=_standard_error(sampled),
            mean_error=_standard_error(mean),
        )

    def classification(self) -> Classification | None:
        """A supervised task's predictions; None where no image is labelled."""
        if not self._judged:
            return None
        judged = Judged(*(torch.cat(column) for column in zip(*self._judged, strict=True)))
        n = len(judged.rank)
        if n == 0:
            return None
        # Classes ahead of the true one: none for top-1, fewer than five for top-5.
        top1, top5 = (Proportion.of(int((judged.rank < within).sum()), n) for within in (1, TOP))
        return Classification(
            task=self.task.name,
            n=n,
            classes=self._classes,
            top1=top1,
            top5=top5 if self._classes > TOP else None,
            nll=float(judged.nll.mean()),
            ece=calibration_error(judged.confidence, judged.rank == 0),
            brier=float(judged.brier.mean()),
            label_entropy=_entropy(torch.cat(self._labels)),
        )


def _entropy(labels: Tensor) -> float:
    """Entropy in nats of labels, int64 [n]."""
    shares = labels.bincount().double() / len(labels)
    return float(torch.special.entr(shares).sum())


def _standard_error(values: Tensor) -> float | None:
    return math.sqrt(float(values.var()) / len(values)) if len(values) > 1 else None
