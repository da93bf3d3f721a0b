"""The attacks of Qin et al. and Gowal et al. (2019): Adam on a margin (method.md 5.2)."""

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import ATTACKS, Aim, Answer, Attack, Lanes, State, Victim
from paradise_cli.attacks.protocol.losses import margin, target_margin
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat, per_image

BETA_1, BETA_2, STABLE = 0.9, 0.999, 1e-9
RATE = 0.1
"""In pixel units; a tenth of it from half of the way on, a hundredth from three quarters."""


def adam(threat: Threat, gradient: Tensor, state: State, count: Tensor) -> tuple[Tensor, State]:
    """The ascent of Adam's update number `count` [B], from 1 on, and its new moments.

    For L2 the second moment is one number an image: Adam's own, one a pixel, would turn every
    gradient into its signs, which is the steepest direction for L-infinity alone.
    """
    mean = torch.lerp(gradient, state["mean"], BETA_1)
    square = torch.lerp(threat.second_moment(gradient), state["square"], BETA_2)
    # Both moments start at 0, and are divided by what they lack of a mean (Kingma and Ba 2015).
    scale = (square / per_image(1 - BETA_2**count)).sqrt() + STABLE
    return mean / per_image(1 - BETA_1**count) / scale, {"mean": mean, "square": square}


class AdamSteps(Attack):
    """Adam in pixel units, projected after every step, from a uniform random start."""

    def __init__(
        self, threat: Threat, *, moves: int, aim: Aim, targets: int = 9, restarts: int = 1
    ) -> None:
        super().__init__(threat, steps=moves + 1, aim=aim, targets=targets, restarts=restarts)
        self.moves = moves

    def start(self, lanes: Lanes, victim: Victim) -> State:
        noise = self.threat.random(keyed_uniform(lanes.key, lanes.images.shape[1:]))
        x = self.threat.project(lanes.images + noise, lanes.images)
        return {"x": x, "mean": torch.zeros_like(x), "square": torch.zeros_like(x)}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return (margin if self.aim == "any" else target_margin)(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        # Large steps find the region, small ones the point; the authors drop the rate twice.
        part = (2 * lanes.step >= self.moves).int() + (4 * lanes.step >= 3 * self.moves).int()
        rate = RATE * 0.1**part
        ascent, moments = adam(self.threat, answer.gradient, state, lanes.step + 1)
        # Not the best point but the last goes on: Adam's moments belong to the path taken.
        moved = state["x"] + per_image(rate) * ascent
        return {"x": self.threat.project(moved, lanes.images), **moments}


@ATTACKS.register
def untargeted(threat: Threat, *, steps: int = 200, restarts: int = 20) -> Attack:
    """Adam on max over j != y of z_j - z_y."""
    return AdamSteps(threat, moves=steps, aim="any", restarts=restarts)


@ATTACKS.register
def multi_targeted(
    threat: Threat, *, steps: int = 200, restarts: int = 20, targets: int = 9
) -> Attack:
    """Adam on z_t - z_y, for every wrong class t in turn, or the `targets` likeliest of them."""
    return AdamSteps(threat, moves=steps, aim="each", targets=targets, restarts=restarts)
