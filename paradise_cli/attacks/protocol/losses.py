"""What attacks maximise: each from logits [B, classes] to [B], no example touching another.

`lanes.targets` are the classes aimed at, -1 where none is.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from paradise_cli.attacks.protocol.lanes import Lanes
from paradise_cli.perturbations.adversarial import margins

Loss = Callable[[Tensor, Lanes], Tensor]


def cross_entropy(logits: Tensor, lanes: Lanes) -> Tensor:
    """-log p(label) in nats."""
    return functional.cross_entropy(logits, lanes.labels, reduction="none")


def margin(logits: Tensor, lanes: Lanes) -> Tensor:
    """max over j != y of z_j - z_y: above 0 once fooled (method.md 5.2)."""
    return margins(logits, lanes.labels)


def dlr(logits: Tensor, lanes: Lanes) -> Tensor:
    """The margin over the distance of the largest and the third logit (method.md 5.3).

    With two classes there is no third, and it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, lanes)
    # Scaled by itself, it does not saturate where cross-entropy does: large logits cancel.
    top = logits.topk(3, 1).values
    return margin(logits, lanes) / (top[:, 0] - top[:, 2] + 1e-12)


def target_cross_entropy(logits: Tensor, lanes: Lanes) -> Tensor:
    """log p(target) in nats."""
    return -functional.cross_entropy(logits, lanes.targets, reduction="none")


def target_margin(logits: Tensor, lanes: Lanes) -> Tensor:
    """z_t - z_y (method.md 5.2)."""
    pair = logits.gather(1, torch.stack([lanes.targets, lanes.labels], 1))  # [B, 2]
    return pair[:, 0] - pair[:, 1]


def target_dlr(logits: Tensor, lanes: Lanes) -> Tensor:
    """z_t - z_y over z_(1) - (z_(3) + z_(4)) / 2 (method.md 5.3).

    Below four classes there is no fourth logit, and it is `target_margin`.
    """
    if logits.shape[1] < 4:
        return target_margin(logits, lanes)
    top = logits.topk(4, 1).values
    return target_margin(logits, lanes) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
TARGET_LOSSES: dict[str, Loss] = {
    "ce": target_cross_entropy,
    "margin": target_margin,
    "dlr": target_dlr,
}


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits with those of the labels at minus infinity."""
    return logits.scatter(1, labels[:, None], -torch.inf)
