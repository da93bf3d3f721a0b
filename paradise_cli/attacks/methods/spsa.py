"""SPSA: gradients estimated from differences of margins (Uesato et al. 2018)."""

import torch
from torch import Tensor

from paradise_cli.attacks.methods.multi_targeted import adam
from paradise_cli.attacks.protocol.lanes import ATTACKS, Answer, Attack, Lanes, State, Victim, kept
from paradise_cli.attacks.protocol.losses import margin
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat, per_image


class SPSA(Attack):
    """Adam on a gradient estimated from `samples` random directions, two queries each.

    A round asks about the point itself, which alone is where a run ends, and then about point +
    delta v and point - delta v, within [0, 1], for directions v of +-1 in every pixel.
    """

    gradient = False

    def __init__(
        self, threat: Threat, *, moves: int, samples: int, delta: float, rate: float
    ) -> None:
        super().__init__(threat, steps=moves * (2 * samples + 1) + 1)
        self.samples, self.delta, self.rate = samples, delta, rate

    def start(self, lanes: Lanes, victim: Victim) -> State:
        x, none = lanes.begin, torch.zeros_like(lanes.begin)
        lowest = torch.full_like(x[:, 0, 0, 0], -torch.inf)
        state = {"x": x, "point": x, "best": x, "highest": lowest}
        return state | {"slope": none, "direction": none, "mean": none, "square": none}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return margin(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        queries = 2 * self.samples + 1
        # 0 at the point itself, odd at point + delta v, even at point - delta v.
        turn = lanes.step % queries
        at_point, ahead = turn == 0, turn % 2 == 1
        better = at_point & (answer.loss > state["highest"])
        # Each query adds its loss times its own direction, so that a pair adds its difference.
        seen = torch.where(at_point, 0.0, answer.loss.nan_to_num(0.0, 0.0, 0.0))
        weight = seen / (2 * self.delta * self.samples)
        slope = state["slope"] + per_image(weight) * state["direction"]
        moves = turn == queries - 1
        moved = {
            name: kept(moves, new, state[name])
            for name, new in self._moved(lanes, state, slope).items()
        }
        # Signs and not normal noise: a division by v is then a product with it.
        fresh = (keyed_uniform(lanes.key, lanes.images.shape[1:], lanes.step) - 0.5).sign()
        direction = kept(ahead, -state["direction"], fresh)  # both ends of each v
        x = (moved["point"] + self.delta * direction).clamp(0, 1)
        return {
            "x": kept(moves, moved["point"], x),
            "best": kept(better, state["x"], state["best"]),
            "highest": torch.where(better, answer.loss, state["highest"]),
            "slope": kept(moves, torch.zeros_like(slope), slope),
            "direction": direction,
            **moved,
        }

    def result(self, state: State) -> Tensor:
        return state["best"]

    def _moved(self, lanes: Lanes, state: State, slope: Tensor) -> State:
        ascent, moments = adam(self.threat, slope, state, lanes.step // (2 * self.samples + 1) + 1)
        return {
            "point": self.threat.project(state["point"] + self.rate * ascent, lanes.images),
            **moments,
        }


@ATTACKS.register
def spsa(
    threat: Threat, *, steps: int = 100, samples: int = 128, delta: float = 0.01, lr: float = 0.01
) -> Attack:
    """So many Adam steps on estimated gradients of the margin, 2 x samples + 1 queries each.

    `delta` and `lr` are in pixel units. Raises UsageError for fewer than one step or sample.
    """
    if steps < 1 or samples < 1 or not delta > 0:
        raise UsageError("spsa: steps and samples must be 1 or more, and delta above 0")
    return SPSA(threat, moves=steps, samples=samples, delta=delta, rate=lr)
