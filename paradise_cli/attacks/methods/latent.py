"""Attacks on the posterior of a stochastic encoder rather than on its classes.

See method.md 5.5, row 12.
"""

from abc import abstractmethod

from torch import Tensor

from paradise_cli.attacks.methods.gradient import GradientSteps
from paradise_cli.attacks.protocol.lanes import (
    ATTACKS,
    Aim,
    Answer,
    Attack,
    Lanes,
    Latent,
    State,
    Victim,
)
from paradise_cli.core.errors import UsageError
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.threat import Threat


class LatentSteps(GradientSteps):
    """PGD whose loss is read off the posterior, from a uniform start.

    At the image itself the loss is at its lowest, and has no slope. The classes are those of mu,
    decoded. Written by an author: `shift`. Raises UsageError at the start for a classifier that
    does not go through latents.
    """

    def __init__(
        self, threat: Threat, steps: int, step_size: float | None, restarts: int, aim: Aim = "any"
    ) -> None:
        size = threat.eps / 4 if step_size is None else step_size
        super().__init__(threat, moves=steps, step_size=size, restarts=restarts, aim=aim)

    @abstractmethod
    def shift(self, posterior: DiagonalGaussian, state: State) -> Tensor:
        """What is maximised, [B]; the posterior of the image itself is `state`'s mu and sigma."""

    def start(self, lanes: Lanes, victim: Victim) -> State:
        # Encoded once: what the posterior is pushed away from stays the same all along.
        clean = _latent(victim).encode(lanes.images).marginals()
        return super().start(lanes, victim) | {"mu": clean.mu, "sigma": clean.sigma}

    def evaluate(
        self, victim: Victim, x: Tensor, lanes: Lanes, state: State
    ) -> tuple[Tensor, Tensor]:
        latent = _latent(victim)
        posterior = latent.encode(x).marginals()
        # Logits and loss come from one pass: the encoder costs as much as a classifier.
        return latent.decode(posterior.mu), self.shift(posterior, state)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        # The clean posterior is no part of the state that PGD knows, and would be lost.
        return state | super().step(lanes, state, answer)


class MeanShift(LatentSteps):
    """||mu(x') - mu(x)||^2."""

    def shift(self, posterior: DiagonalGaussian, state: State) -> Tensor:
        return (posterior.mu - state["mu"]).square().sum(1)


class SigmaShift(LatentSteps):
    """||log sigma(x') - log sigma(x)||^2."""

    def start(self, lanes: Lanes, victim: Victim) -> State:
        return _with_density(super().start(lanes, victim))

    def shift(self, posterior: DiagonalGaussian, state: State) -> Tensor:
        return (posterior.sigma.log() - state["sigma"].log()).square().sum(1)


class PosteriorShift(LatentSteps):
    """KL(p(z|x') || p(z|x)) in nats (method.md 3.1)."""

    def start(self, lanes: Lanes, victim: Victim) -> State:
        return _with_density(super().start(lanes, victim))

    def shift(self, posterior: DiagonalGaussian, state: State) -> Tensor:
        # In closed form: a draw would make the loss random, and its best point one of luck.
        return -posterior.entropy() - _expected_log_density(posterior, state)


class TowardsMean(LatentSteps):
    """-||mu(x') - m_t||^2 for the mean posterior m_t of every wrong class t in turn."""

    def __init__(
        self,
        threat: Threat,
        means: Tensor,
        steps: int,
        step_size: float | None,
        restarts: int,
        targets: int,
    ) -> None:
        # Each wrong class has a run of its own, though no target's logit enters the loss.
        super().__init__(threat, steps, step_size, restarts, aim="each")
        self.means, self.targets = means, targets

    def start(self, lanes: Lanes, victim: Victim) -> State:
        state = super().start(lanes, victim)
        mu = state["mu"]
        # Checked here and not where it is made: only the victim says how many latents there are.
        if self.means.ndim != 2 or self.means.shape[1] != mu.shape[1]:
            raise UsageError(
                f"latent_towards: the class means are {list(self.means.shape)}, not [classes,"
                f" {mu.shape[1]}]"
            )
        return state | {"goal": self.means.to(mu)[lanes.targets]}

    def shift(self, posterior: DiagonalGaussian, state: State) -> Tensor:
        return -(posterior.mu - state["goal"]).square().sum(1)


@ATTACKS.register
def latent_mean(
    threat: Threat, *, steps: int = 100, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """Push mu away from where it is; the step is eps / 4 by default."""
    return MeanShift(threat, steps, step_size, restarts)


@ATTACKS.register
def latent_sigma(
    threat: Threat, *, steps: int = 100, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """Push log sigma away from where it is; the step is eps / 4 by default."""
    return SigmaShift(threat, steps, step_size, restarts)


@ATTACKS.register
def latent_shift(
    threat: Threat, *, steps: int = 100, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """Push the posterior away in Kullback-Leibler divergence; the step is eps / 4 by default."""
    return PosteriorShift(threat, steps, step_size, restarts)


@ATTACKS.register
def latent_towards(
    threat: Threat,
    *,
    means: Tensor,
    steps: int = 100,
    step_size: float | None = None,
    restarts: int = 1,
    targets: int = 9,
) -> Attack:
    """Pull mu towards the means [classes, K] of mu over each likely wrong class, in turn."""
    return TowardsMean(threat, means, steps, step_size, restarts, targets)


def _latent(victim: Victim) -> Latent:
    if victim.latent is None:
        raise UsageError(
            "latent attacks need a stochastic encoder's classifier, one with `posterior` and"
            " `classify`"
        )
    return victim.latent


def _with_density(state: State) -> State:
    # A width of 0 has no density, and log sigma no number to be pushed from.
    if not bool((state["sigma"] > 0).all()):
        raise UsageError(
            "this encoder is deterministic: of the latent attacks only those on mu apply"
        )
    return state


def _expected_log_density(posterior: DiagonalGaussian, state: State) -> Tensor:
    """E log p(z|x) over z ~ p(z|x'), [B]."""
    clean = DiagonalGaussian(state["mu"], state["sigma"])
    return clean.log_prob(posterior.mu) - 0.5 * (posterior.sigma / clean.sigma).square().sum(1)
