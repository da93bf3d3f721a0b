"""Attacks that step along the gradient: FGSM and its kin, the iterative ones, PGD.

See method.md 5.1.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import (
    ATTACKS,
    Aim,
    Answer,
    Attack,
    Lanes,
    State,
    Victim,
    kept,
)
from paradise_cli.attacks.protocol.losses import LOSSES, TARGET_LOSSES
from paradise_cli.core.randomness import keyed_normal, keyed_uniform
from paradise_cli.perturbations.threat import Threat

Start = Literal["image", "uniform", "corner"]
LossName = Literal["ce", "margin", "dlr"]


class GradientSteps(Attack):
    """`moves` steps of length `step_size` up the loss, projected; the best point found is kept.

    It starts at the image (or `begin`), uniformly in the ball, or half of eps away in a random
    direction.
    """

    def __init__(
        self,
        threat: Threat,
        *,
        moves: int,
        step_size: float,
        loss: LossName = "ce",
        start: Start = "uniform",
        aim: Aim = "any",
        targets: int = 9,
        restarts: int = 1,
        keep: Literal["best", "last"] = "best",
    ) -> None:
        # One point more than moves: the last one is asked about as well.
        super().__init__(threat, steps=moves + 1, aim=aim, targets=targets, restarts=restarts)
        self.step_size, self.begin, self.keep = step_size, start, keep
        self._loss = (LOSSES if aim == "any" else TARGET_LOSSES)[loss]

    def start(self, lanes: Lanes, victim: Victim) -> State:
        x, shape = lanes.begin, lanes.images.shape[1:]
        if self.begin == "uniform":
            x = lanes.images + self.threat.random(keyed_uniform(lanes.key, shape))
        elif self.begin == "corner":
            # Half of eps, so that the gradient has the other half to spend.
            away = self.threat.steepest(keyed_normal(lanes.key, shape))
            x = lanes.images + self.threat.eps / 2 * away
        # Also what was begun at: given points need not lie in this ball.
        x = self.threat.project(x, lanes.images)
        return {"x": x, "best": x, "highest": torch.full_like(lanes.images[:, 0, 0, 0], -torch.inf)}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return self._loss(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        # A loss that is no number is never higher, and its point never the best.
        better = answer.loss > state["highest"]
        moved = state["x"] + self.step_size * self.threat.steepest(answer.gradient)
        return {
            "x": self.threat.project(moved, lanes.images),
            "best": kept(better, state["x"], state["best"]),
            "highest": torch.where(better, answer.loss, state["highest"]),
        }

    def result(self, state: State) -> Tensor:
        return state["best" if self.keep == "best" else "x"]


@ATTACKS.register
def fgsm(threat: Threat, *, loss: LossName = "ce") -> Attack:
    """One step of length eps along the sign of the gradient."""
    return GradientSteps(
        threat, moves=1, step_size=threat.eps, loss=loss, start="image", keep="last"
    )


@ATTACKS.register
def r_fgsm(threat: Threat) -> Attack:
    """Half of eps in a random direction, then half along the gradient (Tramer et al. 2017)."""
    return GradientSteps(threat, moves=1, step_size=threat.eps / 2, start="corner", keep="last")


@ATTACKS.register
def step_rand(threat: Threat) -> Attack:
    """One step of length eps towards a random wrong class."""
    return GradientSteps(
        threat, moves=1, step_size=threat.eps, start="image", aim="random", keep="last"
    )


@ATTACKS.register
def iter_rand(
    threat: Threat, *, steps: int | None = None, step_size: float | None = None
) -> Attack:
    """Iterated steps towards a random wrong class (Kurakin et al. 2016).

    The number of steps is theirs for this eps by default, and the step at least a grey level.
    """
    # Their rule counts in grey levels: eps + 4 of them, or a quarter more than eps.
    levels = threat.eps * 255
    moves = steps or max(1, math.ceil(min(levels + 4, 1.25 * levels)))
    size = step_size or max(1 / 255, threat.eps / moves)
    return GradientSteps(
        threat, moves=moves, step_size=size, start="image", aim="random", keep="last"
    )


@ATTACKS.register
def pgd(
    threat: Threat,
    *,
    steps: int = 100,
    step_size: float | None = None,
    loss: LossName = "ce",
    restarts: int = 1,
    start: Start = "uniform",
) -> Attack:
    """Projected gradient ascent from a random start (Madry et al. 2018), by default of eps / 4."""
    size = threat.eps / 4 if step_size is None else step_size
    return GradientSteps(
        threat, moves=steps, step_size=size, loss=loss, start=start, restarts=restarts
    )


@ATTACKS.register
def pgd_rand(
    threat: Threat, *, steps: int = 200, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """PGD towards a random wrong class; the step is max(1/255, eps / steps) by default."""
    # A step below a grey level would move no pixel of an image of 8 bits.
    size = max(1 / 255, threat.eps / steps) if step_size is None else step_size
    return GradientSteps(threat, moves=steps, step_size=size, aim="random", restarts=restarts)
