"""Images that an attack turned into a class it had chosen (paper Fig. 6)."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.session.inputs import checked_images, checked_labels, choose_compute
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.phase import Pulse, TurnedRandom
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import full_fp32
from paradise_cli.core.proportions import Proportion

ATTACK = "pgd_rand"


@dataclass(frozen=True)
class Targets:
    """Images [R, C, H, W] of true classes `labels` [R] that an attack within L-infinity `eps` took
    to `targets` [R]; `attacked` are alike, of `rows` among all n images.

    `reached` is the share that it did of n images, each with a wrong class drawn at random: of all
    but the `already`, which the classifier called that before. They are neither led nor counted.
    """

    eps: float
    steps: int
    rows: tuple[int, ...]
    images: Tensor
    attacked: Tensor
    labels: Tensor
    targets: Tensor
    n: int
    already: int
    reached: Proportion

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name."""
        names = ("images", "attacked", "labels", "targets")
        return {name: getattr(self, name).numpy() for name in names} | {"rows": np.array(self.rows)}

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "eps": self.eps,
            "steps": self.steps,
            "n": self.n,
            "already": self.already,
            "reached": asdict(self.reached),
            "rows": list(self.rows),
        }


def targeted(
    function: Function,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    *,
    eps: float,
    steps: int,
    shown: int,
    seed: int = 0,
    pulse: Pulse | None = None,
) -> Targets:
    """Lead every image to a wrong class drawn for it, and give the first that got there.

    Images are [N, C, H, W] in [0, 1], labels int64 [N]; a success is confirmed inside the ball, and
    `pulse` learns how far it is. Raises ParadiseError where all are called their class as they are.
    """
    images = checked_images(images)
    labels = checked_labels(labels, len(images))
    compute = choose_compute(device, images.shape[2:], "fp32")
    with full_fp32(device):
        subject = Subject.examine(function, images, labels, "linf", compute, seed)
        try:
            rows, found = _led(subject, eps, steps, pulse)
        except TurnedRandom:  # which gave the same answer twice before
            rows, found = _led(subject.as_random(), eps, steps, pulse)
    there = sorted(found)[:shown]
    points = [found[row].point for row in there]
    return Targets(
        eps=eps,
        steps=steps,
        rows=tuple(there),
        images=images[there],
        attacked=torch.stack([each for each in points if each is not None])
        if there
        else images[:0],
        labels=labels[there],
        targets=torch.tensor([found[row].target for row in there], dtype=torch.int64),
        n=len(rows),
        already=len(images) - len(rows),
        reached=Proportion.of(len(found), len(rows)),
    )


def _led(
    subject: Subject, eps: float, steps: int, pulse: Pulse | None
) -> tuple[list[int], dict[int, Entry]]:
    """The rows that are led, and what is found of those that get there."""
    rows = subject.not_there_yet(range(len(subject.images)))
    if not rows:
        raise ParadiseError(
            "the classifier calls every image the class drawn as its target as it is: there is"
            " nothing to lead; take more images"
        )
    session = Session(subject, pulse=pulse)
    with session.phase(denominator=len(rows)):
        return rows, session.attack(ATTACK, eps, rows, hyper={"steps": steps}, goal="reach")
