"""The cross-entropy of any classifier at any points, and its slope in the pixels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.protocol.lanes import input_gradient
from paradise_cli.attacks.session.first_look import first_look
from paradise_cli.attacks.session.inputs import checked_images, checked_labels, choose_compute
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import full_fp32, whole_batch
from paradise_cli.core.progress import tell

ANSWERS_AT_RANDOM = (
    "the classifier answers at random, so that its loss at a point is no one value: draw its noise"
    " once, or take the mean over it"
)


class Loss:
    """A classifier examined on labelled images, and asked about points around them.

    Images are [N, C, H, W] in [0, 1], labels int64 [N]; `correct` bool [N] says which of them it
    names rightly, and `hints` what to know of the classifier before its loss is believed. Points
    may lie outside of [0, 1]. Raises as `Subject.examine`, and ParadiseError for a classifier that
    answers at random.
    """

    def __init__(
        self, function: Function, images: Tensor, labels: Tensor, device: torch.device
    ) -> None:
        images = checked_images(images)
        labels = checked_labels(labels, len(images))
        compute = choose_compute(device, images.shape[2:], "fp32")
        self._subject = Subject.examine(function, images, labels, "linf", compute)
        if self._subject.behaviour.random:
            raise ParadiseError(ANSWERS_AT_RANDOM)
        self.correct = self._subject.correct
        self.hints = first_look(self._subject)
        self._asked = self._expected = 0

    def expect(self, points: int) -> None:
        """Tell how far the work is, which is to ask about so many points from now on."""
        self._asked, self._expected = 0, points

    def at(self, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [M] and predicted class [M] at points [M, C, H, W] with labels [M]."""

        def answers(some: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                logits = self._subject.classifier(some)
            return cross_entropy(logits, true, reduction="none"), logits.argmax(1)

        loss, predicted = self._in_batches(answers, points, labels)
        return loss, predicted

    def gradient(self, points: Tensor, labels: Tensor) -> Tensor:
        """d loss / d pixels at points [M, C, H, W], of the same shape; 0 where there is none."""

        def slopes(some: Tensor, true: Tensor) -> tuple[Tensor]:
            x = some.clone().requires_grad_()
            loss = cross_entropy(self._subject.classifier(x), true, reduction="none")
            return (input_gradient(loss, x),)

        (found,) = self._in_batches(slopes, points, labels)
        return found

    def _in_batches(
        self,
        ask: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        points: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, ...]:
        """What `ask` gives for all points, always asked about as many at a time; on the CPU."""
        compute = self._subject.compute
        found = []
        with full_fp32(compute.device):
            for first in range(0, len(points), compute.width):
                # One shape: kernels round differently at others, and some functions take one only.
                part = torch.arange(first, min(first + compute.width, len(points)))
                rows = whole_batch(part, compute.width)
                some, true = (each[rows].to(compute.device) for each in (points, labels))
                found.append([each[: len(part)].cpu() for each in ask(some, true)])
                self._asked += len(part)
                if self._asked <= self._expected:
                    tell("points around images", self._asked, self._expected)
        return tuple(torch.cat(each) for each in zip(*found, strict=True))
