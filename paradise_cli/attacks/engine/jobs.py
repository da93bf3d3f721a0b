"""Which runs an attack makes on which images, what seeds their noise, and which still count."""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import Attack
from paradise_cli.attacks.protocol.losses import others
from paradise_cli.core.randomness import generator, seed_of

Goal = Literal["fool", "reach", "none"]
"""When a run ends early: at a wrong class, at the target, or never."""


@dataclass(frozen=True)
class Job:
    """Run number `run` on one image; of an image's runs, lower numbers count first."""

    image: int
    run: int
    target: int
    key: int


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `point` [C, H, W] is where it succeeded, or else where it ended.

    `step` is the number of points asked about until then.
    """

    job: Job
    succeeded: bool
    point: Tensor
    step: int


class Queue:
    """Jobs that wait for a lane. Those behind a success on the same image no longer count.

    Of several runs on one image the lowest that succeeds counts, whichever ended first: results
    then do not depend on how many lanes there are.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        # All first runs before any second one: what they break needs no second one.
        self._waiting = deque(sorted(jobs, key=lambda job: (job.run, job.image)))
        self._lowest: dict[int, int] = {}  # successful run, by image

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, outcome: Outcome) -> None:
        """Learn how a job ended."""
        if outcome.succeeded:
            job = outcome.job
            self._lowest[job.image] = min(job.run, self._lowest.get(job.image, job.run))

    def counts(self, job: Job) -> bool:
        """Whether the outcome of a job may still matter."""
        return self._lowest.get(job.image, job.run) >= job.run

    def take(self, room: int) -> list[Job]:
        """The next jobs that still count, at most `room` of them; others among them are dropped."""
        fresh: list[Job] = []
        while self._waiting and len(fresh) < room:
            job = self._waiting.popleft()
            if self.counts(job):
                fresh.append(job)
        return fresh


def reached(goal: Goal, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Whether a run may end, bool [B]; logits that are no numbers are neither right nor target."""
    predicted = logits.argmax(1)
    if goal == "fool":
        return (predicted != labels) | ~logits.isfinite().all(1)
    if goal == "reach":
        return (predicted == targets) & logits.isfinite().all(1)
    return torch.zeros_like(predicted, dtype=torch.bool)


def digests(images: Tensor) -> list[str]:
    """What identifies each image [N, C, H, W] wherever it stands: noise is keyed by it."""
    # In fp32, as the classifier sees it: images given in other types are the same images.
    return [
        hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
        for image in images.float().cpu()
    ]


def jobs_of(
    name: str,
    attack: Attack,
    logits: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    rows: Iterable[int],
    seed: int = 0,
) -> list[Job]:
    """The runs of an attack on the images of these rows; clean logits [N, classes], labels [N].

    Runs of an image are in the order in which they count: each restart passes over all targets, the
    likeliest first.
    """
    wrong = others(logits.double(), labels)
    count = min(attack.targets, logits.shape[1] - 1)
    # Stable, so that equal logits, as of a dead class, are ranked alike on every machine.
    order = wrong.sort(dim=1, descending=True, stable=True).indices
    ranked = order[:, :count].tolist()
    found = []
    for row in rows:
        if attack.aim == "any":
            targets = [-1]
        elif attack.aim == "each":
            targets = ranked[row]
        else:
            targets = [drawn_target(int(labels[row]), logits.shape[1], seed, ids[row])]
        runs = [(restart, target) for restart in range(attack.restarts) for target in targets]
        for run, (restart, target) in enumerate(runs):
            # The key names image and target, not row and run: noise survives another order.
            key = seed_of(seed, ids[row], name, restart, target)
            found.append(Job(row, run, target, key))
    return found


def drawn_target(label: int, classes: int, seed: int, image: str) -> int:
    """The wrong class that an image of this `label` is led to, uniformly of those there are."""
    # A shift of 1 to classes - 1 never leads back to the label, so that none is drawn again.
    shift = int(torch.randint(1, classes, (), generator=generator(seed, image, "target")))
    return (label + shift) % classes
