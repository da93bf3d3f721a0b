"""Attacks that read logits alone and keep the best point; random search is the plainest."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import ATTACKS, Answer, Attack, Lanes, State, Victim, kept
from paradise_cli.attacks.protocol.losses import margin
from paradise_cli.core.randomness import keyed_normal, keyed_uniform
from paradise_cli.perturbations.threat import Threat


class Proposals(Attack):
    """`steps` points, each proposed from the best one before it; the best has the largest margin.

    Written by an author: `first` and `propose`.
    """

    gradient = False

    @abstractmethod
    def first(self, lanes: Lanes) -> Tensor:
        """The first point, [B, C, H, W]."""

    @abstractmethod
    def propose(self, lanes: Lanes, best: Tensor) -> Tensor:
        """Point number `lanes.step`, counted from 1 after `first`, [B, C, H, W]."""

    def start(self, lanes: Lanes, victim: Victim) -> State:
        x = self.first(lanes)
        return {"x": x, "best": x, "highest": torch.full_like(x[:, 0, 0, 0], -torch.inf)}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return margin(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        # Strictly: an equal point is no progress, and the queries asked ahead rest on that.
        better = answer.loss > state["highest"]
        best = kept(better, state["x"], state["best"])
        return {
            # Noise is keyed by the number of the point, and this is the next one.
            "x": self.propose(lanes._replace(step=lanes.step + 1), best),
            "best": best,
            "highest": torch.where(better, answer.loss, state["highest"]),
        }

    def result(self, state: State) -> Tensor:
        return state["best"]


class RandomSearch(Proposals):
    """Independent draws: uniformly in the ball, or steps of length eps in random directions."""

    def __init__(self, threat: Threat, *, draws: int, kind: Literal["uniform", "corner"]) -> None:
        super().__init__(threat, steps=draws)
        self.kind = kind

    def first(self, lanes: Lanes) -> Tensor:
        return self.propose(lanes, lanes.images)  # draws do not build on each other

    def propose(self, lanes: Lanes, best: Tensor) -> Tensor:
        shape = lanes.images.shape[1:]
        if self.kind == "uniform":
            change = self.threat.random(keyed_uniform(lanes.key, shape, lanes.step))
        else:
            change = self.threat.eps * self.threat.steepest(
                keyed_normal(lanes.key, shape, lanes.step)
            )
        return self.threat.project(lanes.images + change, lanes.images)


@ATTACKS.register
def random_search(
    threat: Threat, *, draws: int = 10_000, kind: Literal["uniform", "corner"] = "uniform"
) -> Attack:
    """Independent draws, in the ball or (`corner`) at full strength (method.md 5.5, row 5)."""
    return RandomSearch(threat, draws=draws, kind=kind)
