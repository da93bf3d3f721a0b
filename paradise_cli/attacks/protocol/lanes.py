"""An attack as steps that many images take together, each at its own step.

A lane is a slot of the batch of fixed shape: it works on one image in one run of the attack, and
takes the next run when that one has ended. Each step asks the classifier about one point of every
lane. Whoever runs the attack (`attacks/engine`) passes the batch through the classifier once,
decides which lanes have fooled it, and hands logits and gradient back. So lanes at different steps
share a batch, and no attack ever decides about its own success.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.foreign import foreign
from paradise_cli.core.registry import Registry
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.perturbations.threat import Threat

Aim = Literal["any", "each", "random"]
"""What a run aims at: any wrong class, each of the likeliest in turn, or one drawn."""

State = dict[str, Tensor]
"""What an attack remembers of its lanes, each [B, ...]; `x` is the point to ask about next.

`ended`, bool [B], if there is one, ends a lane's run before all steps are taken.
"""


class Lanes(NamedTuple):
    """What B lanes were given: images and `begin` [B, C, H, W], the rest int64 [B].

    `begin` is where a run without random start begins, the image itself if nothing else is asked
    for; `key` seeds all of its noise, and `step` counts the points asked about so far.
    """

    images: Tensor
    begin: Tensor
    labels: Tensor
    targets: Tensor
    key: Tensor
    step: Tensor


class Latent(NamedTuple):
    """The way through an encoder: images to posteriors, and z [B, K] to logits [B, classes]."""

    encode: Callable[[Tensor], Gaussian]
    decode: Callable[[Tensor], Tensor]


class Victim(Protocol):
    """What is attacked: images [B, C, H, W] to logits [B, classes]; encoders have a `latent`."""

    latent: Latent | None

    def __call__(self, images: Tensor) -> Tensor: ...


class Answer(NamedTuple):
    """What came back for `x`: logits [B, classes], loss [B] and its gradient [B, C, H, W].

    The gradient is [0] at a point where nobody asked for it.
    """

    logits: Tensor
    loss: Tensor
    gradient: Tensor


class Attack(ABC):
    """One attack under one threat; each run asks about `steps` points at most.

    `restarts` runs are made towards each target. Written by an author: `start`, `step`, and `loss`
    or `evaluate`.
    """

    gradient = True
    """Whether `step` needs the gradient of the loss."""

    cycle = 1
    """The gradient is taken at the first of so many points in turn; all lanes keep step."""

    def __init__(
        self, threat: Threat, *, steps: int, aim: Aim = "any", targets: int = 9, restarts: int = 1
    ) -> None:
        self.threat = threat
        self.steps = steps
        self.aim = aim
        self.targets = targets
        self.restarts = restarts

    @abstractmethod
    def start(self, lanes: Lanes, victim: Victim) -> State:
        """The state before the first point; anything but `x` is the attack's own."""

    @abstractmethod
    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        """The state with the next `x`, given the answer for this one.

        No value may be read by the host here: that would wait for the device in every step.
        """

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        """What the attack maximises, [B]."""
        raise NotImplementedError

    def evaluate(
        self, victim: Victim, x: Tensor, lanes: Lanes, state: State
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, classes] and loss [B] at x, differentiable in x."""
        logits = victim(x)
        return logits, self.loss(logits, lanes)

    def result(self, state: State) -> Tensor:
        """The point that a run ends with if it fooled nothing."""
        return state["x"]


ATTACKS: Registry[Attack] = Registry("attack")
"""Factories `(threat, *, <hyper>) -> Attack`."""


def input_gradient(loss: Tensor, x: Tensor) -> Tensor:
    """d loss [B] / d x, [B, C, H, W]; 0 where there is none, as behind a layer that cuts x off."""
    found = None
    # The gradient of the pixels alone: `backward` would compute those of all weights as well.
    if loss.requires_grad:
        with foreign("when asked for its gradient at", x):
            (found,) = torch.autograd.grad(loss.sum(), [x], allow_unused=True)
    if found is None:
        return torch.zeros_like(x)
    # From channels_last layers it comes so laid out, and would slow all that mixes it with images.
    # What is no number would spread into the point, and from there into every later one.
    return found.contiguous().nan_to_num(0.0, 0.0, 0.0)


def kept(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where `better` [B], else `old`."""
    return torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
