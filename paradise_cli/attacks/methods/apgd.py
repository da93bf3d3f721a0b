"""APGD of Croce and Hein (2020): gradient ascent whose step halves where it stops paying.

See method.md 5.3.
"""

from functools import cache
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
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat, per_image

LossName = Literal["ce", "margin", "dlr"]
Start = Literal["sphere", "image"]

MOMENTUM = 0.75
"""The part of a move that is new; the rest is the move before."""
PAYING = 0.75
"""A period in which at most this part of the moves raised the loss halves the step."""
FIRST, SHRINK, SHORTEST = 0.22, 0.03, 0.06
"""Length of the first period, what each next one is shorter by, and the least, as parts of all
moves.
"""


def checkpoints(moves: int) -> list[int]:
    """After how many moves the step is looked at, ascending."""
    # At least one move each: with few moves the parts would round to no period at all.
    period, shrink, shortest = (max(int(part * moves), 1) for part in (FIRST, SHRINK, SHORTEST))
    found = [period]
    while True:
        period = max(period - shrink, shortest)
        if found[-1] + period > moves:
            return found
        found.append(found[-1] + period)


@cache
def _periods(moves: int, device: torch.device) -> Tensor:
    """The length of the period that ends after each number of moves, or 0; int64 [moves + 2]."""
    # A table instead of a search, so that every lane looks up its own step without a branch.
    lengths = [0] * (moves + 2)
    last = 0
    for checkpoint in checkpoints(moves):
        lengths[checkpoint] = checkpoint - last
        last = checkpoint
    return torch.tensor(lengths, device=device)


class AutoStep(Attack):
    """`moves` steps up the loss with momentum, the first of length 2 eps, from a point on the
    sphere.

    At a checkpoint a run that does not get on halves its step and goes on from its best point. The
    start is a random direction of length eps, or `begin`.
    """

    def __init__(
        self,
        threat: Threat,
        *,
        moves: int,
        loss: LossName,
        start: Start = "sphere",
        aim: Aim = "any",
        targets: int = 9,
        restarts: int = 1,
    ) -> None:
        super().__init__(threat, steps=moves + 1, aim=aim, targets=targets, restarts=restarts)
        self.moves, self.begin = moves, start
        self._loss = (LOSSES if aim == "any" else TARGET_LOSSES)[loss]

    def start(self, lanes: Lanes, victim: Victim) -> State:
        x = lanes.begin
        if self.begin == "sphere":
            # As AutoAttack starts: a random direction, stretched until it touches the sphere.
            away = self.threat.random(keyed_uniform(lanes.key, lanes.images.shape[1:]))
            length = self.threat.distance(away, torch.zeros_like(away))
            x = lanes.images + away * per_image(self.threat.eps / length)
        x = self.threat.project(x, lanes.images)
        _periods(self.moves, x.device)  # copied here: `step` must not wait for the device
        lowest = torch.full_like(x[:, 0, 0, 0], -torch.inf)
        return {
            "x": x,
            "previous": x,
            "best": x,
            "gradient": torch.zeros_like(x),  # at the best point
            "highest": lowest,
            "checked": lowest,  # the highest loss at the last checkpoint
            "loss": lowest,
            "raised": torch.zeros_like(lanes.step),
            "halved": torch.ones_like(lanes.step, dtype=torch.bool),
            "length": torch.full_like(lowest, 2 * self.threat.eps),
        }

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return self._loss(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        state = self._learned(lanes, state, answer)
        period = _periods(self.moves, lanes.step.device)[lanes.step]
        # Right after a halving a run has had no time yet to get on with its shorter step.
        stuck = ~state["halved"] & (state["checked"] >= state["highest"])
        check = period > 0
        halve = check & ((state["raised"] <= PAYING * period) | stuck)
        # From the best point its own gradient leads on, which was kept for this.
        x = kept(halve, state["best"], state["x"])
        gradient = kept(halve, state["gradient"], answer.gradient)
        length = torch.where(halve, state["length"] / 2, state["length"])
        return state | {
            "x": self._moved(lanes, x, x - state["previous"], gradient, length),
            "previous": x,
            "checked": torch.where(check, state["highest"], state["checked"]),
            "raised": torch.where(check, 0, state["raised"]),
            "halved": torch.where(check, halve, state["halved"]),
            "length": length,
        }

    def result(self, state: State) -> Tensor:
        return state["best"]

    def _learned(self, lanes: Lanes, state: State, answer: Answer) -> State:
        """The state with what the answer says of the last move and of the best point."""
        better = answer.loss > state["highest"]
        moved = lanes.step > 0
        return state | {
            "best": kept(better, state["x"], state["best"]),
            "gradient": kept(better, answer.gradient, state["gradient"]),
            "highest": torch.where(better, answer.loss, state["highest"]),
            # The start counts as the first checkpoint.
            "checked": torch.where(moved, state["checked"], answer.loss),
            "loss": answer.loss,
            "raised": state["raised"] + (moved & (answer.loss > state["loss"])),
        }

    def _moved(
        self, lanes: Lanes, x: Tensor, momentum: Tensor, gradient: Tensor, length: Tensor
    ) -> Tensor:
        """The next point from x; the first move has nothing before it and is all new."""
        new = per_image(torch.where(lanes.step > 0, MOMENTUM, 1.0))
        # Projected twice, as the authors do: the momentum is added to a point of the ball.
        ascended = self.threat.project(
            x + per_image(length) * self.threat.steepest(gradient), lanes.images
        )
        return self.threat.project(x + new * (ascended - x) + (1 - new) * momentum, lanes.images)


@ATTACKS.register
def apgd(
    threat: Threat,
    *,
    steps: int = 100,
    loss: LossName = "ce",
    restarts: int = 1,
    start: Start = "sphere",
) -> Attack:
    """APGD towards any wrong class; AutoAttack runs it on CE."""
    return AutoStep(threat, moves=steps, loss=loss, start=start, restarts=restarts)


@ATTACKS.register
def apgd_targeted(
    threat: Threat,
    *,
    steps: int = 100,
    targets: int = 9,
    loss: LossName = "dlr",
    restarts: int = 1,
    start: Start = "sphere",
) -> Attack:
    """APGD towards each of the likeliest wrong classes in turn; AutoAttack runs it on DLR."""
    return AutoStep(
        threat, moves=steps, loss=loss, start=start, aim="each", targets=targets, restarts=restarts
    )
