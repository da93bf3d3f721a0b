"""Which runs an attack makes on which images, and what seeds their noise."""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from paradise_cli.attacks.engine.lane_batch import Job
from paradise_cli.attacks.protocol.lanes import Attack
from paradise_cli.attacks.protocol.losses import others
from paradise_cli.core.randomness import generator, seed_of


def digests(images: Tensor) -> list[str]:
    """What identifies each image [N, C, H, W] wherever it stands: noise is keyed by it, not by its
    row.
    """
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
    """The runs of an attack on the images of these rows; clean logits [N, classes], labels [N], N
    ids.

    Runs of an image are in the order in which they count: each restart passes over all targets, the
    likeliest first.
    """
    wrong = others(logits.double(), labels)
    ranked = (
        wrong.sort(dim=1, descending=True, stable=True)
        .indices[:, : min(attack.targets, logits.shape[1] - 1)]
        .tolist()
    )
    least = logits.double().scatter(1, labels[:, None], torch.inf).argmin(1).tolist()
    found = []
    for row in rows:
        if attack.aim == "any":
            targets = [-1]
        elif attack.aim == "each":
            targets = ranked[row]
        elif attack.aim == "least_likely":
            targets = [least[row]]
        else:
            targets = [_drawn(int(labels[row]), logits.shape[1], seed, ids[row])]
        runs = [(restart, target) for restart in range(attack.restarts) for target in targets]
        found += [
            Job(row, run, target, seed_of(seed, ids[row], name, restart, target))
            for run, (restart, target) in enumerate(runs)
        ]
    return found


def _drawn(label: int, classes: int, seed: int, image: str) -> int:
    """A wrong class, uniformly."""
    shift = int(torch.randint(1, classes, (), generator=generator(seed, image, "target")))
    return (label + shift) % classes
