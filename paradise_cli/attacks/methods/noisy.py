"""PGD along a gradient averaged over noise in the image (SmoothGrad inside an attack)."""

from torch import Tensor

from paradise_cli.attacks.methods.gradient import GradientSteps
from paradise_cli.attacks.protocol.lanes import ATTACKS, Attack, Lanes, State, Victim
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat


class NoisySteps(GradientSteps):
    """PGD along a gradient averaged over `draws` points: x itself and others within eps / 2."""

    def __init__(self, threat: Threat, *, moves: int, draws: int) -> None:
        super().__init__(threat, moves=moves, step_size=threat.eps / 4)
        self.draws = draws

    def evaluate(
        self, victim: Victim, x: Tensor, lanes: Lanes, state: State
    ) -> tuple[Tensor, Tensor]:
        # The logits are those of x alone: success is never decided by a noisy image.
        logits = victim(x)
        total = self.loss(logits, lanes)
        for draw in range(1, self.draws):
            noise = self.threat.random(keyed_uniform(lanes.key, x.shape[1:], lanes.step, draw)) / 2
            # Pixels stay pixels, and those at the edge keep their gradient.
            noisy = x + ((x + noise).clamp(0, 1) - x).detach()
            total = total + self.loss(victim(noisy), lanes)
        return logits, total / self.draws


@ATTACKS.register
def noisy_pgd(threat: Threat, *, steps: int = 50, draws: int = 4) -> Attack:
    """PGD on cross-entropy with gradients averaged over noise in the image."""
    return NoisySteps(threat, moves=steps, draws=draws)
