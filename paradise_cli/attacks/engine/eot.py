"""Expectation over transformation: attacks on a classifier that draws at random."""

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from paradise_cli.attacks.protocol.lanes import Answer, Attack, Lanes, State, Victim
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_normal


class Averaged(Attack):
    """An attack on the log of the mean probability of several draws (Athalye et al. 2018).

    A stochastic encoder is sampled at the latent, with noise keyed by lane, step and draw; any
    other classifier is asked that often. Raises UsageError for fewer than one draw.
    """

    def __init__(self, attack: Attack, draws: int) -> None:
        if draws < 1:
            raise UsageError(f"expectation over transformation needs 1 draw or more, not {draws}")
        super().__init__(
            attack.threat,
            steps=attack.steps,
            aim=attack.aim,
            targets=attack.targets,
            restarts=attack.restarts,
        )
        self.attack = attack
        self.draws = draws
        # It stands for the attack in the engine, which must ask it as it would ask that one.
        self.gradient = attack.gradient
        self.cycle = attack.cycle

    def start(self, lanes: Lanes, victim: Victim) -> State:
        return self.attack.start(lanes, _Mean(victim, lanes, self.draws))

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        return self.attack.step(lanes, state, answer)

    def evaluate(
        self, victim: Victim, x: Tensor, lanes: Lanes, state: State
    ) -> tuple[Tensor, Tensor]:
        return self.attack.evaluate(_Mean(victim, lanes, self.draws), x, lanes, state)

    def result(self, state: State) -> Tensor:
        return self.attack.result(state)


class _Mean:
    """Images of these lanes to the log of the mean probability, [B, classes]."""

    def __init__(self, victim: Victim, lanes: Lanes, draws: int) -> None:
        self.victim = victim
        self.lanes = lanes
        self.draws = draws
        self.latent = victim.latent

    def __call__(self, images: Tensor) -> Tensor:
        if self.latent is None:
            each = torch.stack([self.victim(images) for _ in range(self.draws)])
        else:
            # One pass through the encoder serves all draws: only what follows z is asked again.
            posterior = self.latent.encode(images)
            noise = [
                keyed_normal(self.lanes.key, posterior.mu.shape[1:], self.lanes.step, draw)
                for draw in range(self.draws)
            ]
            z = posterior.rsample(torch.stack(noise))  # [draws, B, K]
            each = self.latent.decode(z.flatten(0, 1)).view(self.draws, len(images), -1)
        # Probabilities are averaged, as the classifier's decisions are, and not logits.
        return log_softmax(each, 2).logsumexp(0) - math.log(self.draws)
