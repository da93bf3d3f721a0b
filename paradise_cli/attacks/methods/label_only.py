"""RayS: an attack that reads nothing but the predicted class (Chen and Gu 2020; method.md 5.5)."""

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import ATTACKS, Answer, Attack, Lanes, State, Victim, kept
from paradise_cli.attacks.protocol.losses import margin
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat, per_image

_FAR = 1.0
"""In L-infinity a ray of this length ends at a corner of the pixel cube."""
_HALVINGS = 7
"""Of the distance between a point of the right class and one of a wrong class on a new ray."""


class LabelOnly(Attack):
    """Looks for the direction of signs in which the boundary is nearest, by predictions alone.

    A ray starts at the image. On the best ray so far a wrong class begins at `radius`. Signs of one
    block of pixels are flipped: if the new ray is wrong at that radius it is better, and its own
    radius is found by bisection. Blocks shrink from the whole image to single pixels, and again.
    """

    gradient = False

    def __init__(self, threat: Threat, *, queries: int, restarts: int) -> None:
        super().__init__(threat, steps=queries, restarts=restarts)

    def start(self, lanes: Lanes, victim: Victim) -> State:
        signs = (keyed_uniform(lanes.key, lanes.images.shape[1:]) - 0.5).sign()
        far = torch.full_like(lanes.images[:, 0, 0, 0], self._longest(lanes.images))
        none = torch.zeros_like(lanes.step)
        state = {"signs": signs, "trial": signs, "radius": far, "low": far, "high": far}
        # `halvings` left on the ray tried, and which block was flipped for it.
        state |= {"halvings": none, "block": none}
        return state | {"x": self._point(lanes.images, signs, far), "end": lanes.images}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return margin(logits, lanes)  # only for the engine's choice among points that fool

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        wrong = answer.logits.argmax(1) != lanes.labels
        probing = state["halvings"] == 0
        # Probing asks at the best radius, bisecting between the bounds on a ray that was better.
        low = torch.where(probing, torch.zeros_like(state["low"]), state["low"])
        high = torch.where(probing, state["radius"], state["high"])
        asked = torch.where(probing, high, (low + high) / 2)
        high = torch.where(wrong, asked, high)
        low = torch.where(wrong, low, asked)
        better = probing & wrong
        halvings = torch.where(better, _HALVINGS, (state["halvings"] - 1).clamp(min=0))
        settled = ~probing & (halvings == 0)
        signs = kept(settled, state["trial"], state["signs"])
        radius = torch.where(settled, high, state["radius"])
        following = halvings == 0
        block = state["block"] + following
        trial = kept(following, self._flipped(signs, block), state["trial"])
        next_radius = torch.where(following, radius, (low + high) / 2)
        return {
            "x": self._point(lanes.images, trial, next_radius),
            # Where the best ray leaves the ball: what was asked about may lie far outside.
            "end": self.threat.project(self._point(lanes.images, signs, radius), lanes.images),
            "signs": signs,
            "trial": trial,
            "radius": radius,
            "low": low,
            "high": high,
            "halvings": halvings,
            "block": block,
        }

    def result(self, state: State) -> Tensor:
        return state["end"]

    def _flipped(self, signs: Tensor, block: Tensor) -> Tensor:
        """The signs [B, C, H, W] with those of block number `block` [B] flipped."""
        pixels = signs[0].numel()
        levels = max(1, (pixels - 1).bit_length())
        # Numbers 1, 2 and 3, 4 to 7, ... are those of 1, 2, 4, ... blocks; after the last begin
        # anew.
        number = torch.remainder(block, 2 ** (levels + 1) - 1) + 1  # [B]
        level = torch.log2(number.double() + 0.5).floor()
        blocks = torch.pow(2, level).long()
        owner = torch.arange(pixels, device=signs.device) * blocks[:, None] // pixels  # [B, pixels]
        flip = owner == (number - blocks)[:, None]
        return torch.where(flip.view_as(signs), -signs, signs)

    def _longest(self, images: Tensor) -> float:
        return _FAR if self.threat.name == "linf" else float(images[0].numel()) ** 0.5

    def _point(self, images: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        return (images + per_image(radius) * self.threat.steepest(signs)).clamp(0, 1)


@ATTACKS.register
def label_only(threat: Threat, *, queries: int = 1000, restarts: int = 4) -> Attack:
    """RayS: so many predictions in each restart, and neither scores nor gradients.

    The first directions are drawn, as it ends in one of many local optima. Raises UsageError for no
    queries.
    """
    if queries < 1:
        raise UsageError(f"label_only: queries must be 1 or more, not {queries}")
    return LabelOnly(threat, queries=queries, restarts=restarts)
