"""FAB of Croce and Hein (2020): the nearest point of another class, plane by plane.

See method.md 5.3.
"""

import torch
from torch import Tensor
from torch.linalg import vecdot

from paradise_cli.attacks.protocol.lanes import ATTACKS, Answer, Attack, Lanes, State, Victim, kept
from paradise_cli.attacks.protocol.losses import target_margin
from paradise_cli.perturbations.threat import Threat, per_image

LARGEST_MIX = 0.1
"""The most that the projection of the image weighs beside that of the point."""
OVERSHOOT = 1.05
"""How far a point goes, as a multiple of the way to the plane: on it nothing is decided."""
BACKWARD = 0.9
"""How much of its perturbation a point keeps that fooled."""
NEWTON_STEPS = 8
"""Enough where a plane asks for up to 90% of what the box can close; for 30% 5 are."""


def change_to_plane(threat: Threat, x: Tensor, gap: Tensor, normal: Tensor) -> Tensor:
    """The smallest change within [0, 1] that brings each x onto a plane, [N, C, H, W].

    Smallest is meant in the threat's norm. The plane is where gap + normal . change = 0, with gap
    [N] and normal [N, C, H, W]. Where the box does not meet it, the change is to the corner nearest
    to it. Croce and Hein (2020), FAB, section 3.2; exact as far as NEWTON_STEPS lead, beyond which
    the change falls a little short.

    Every pixel goes the way that closes the gap, `pace` times a common amount, as far as it has
    room. What this closes is concave in the amount, so Newton's steps from 0 never pass the amount
    sought and reach it once the right pixels are full.
    """
    way = -gap.sign()[:, None] * normal.flatten(1).sign()
    slope, pace = normal.flatten(1).abs(), threat.steepest(normal).flatten(1).abs()
    room = torch.where(way > 0, 1 - x.flatten(1), x.flatten(1))
    least = 1e-12  # a pace below it never fills a pixel
    enough = room / pace.clamp(min=least)  # the amount that fills each pixel, [N, P]
    closes = slope * room  # how much of the gap a full pixel closes
    rate = slope * pace  # and how much one that is not full closes for each unit of the amount
    amount = torch.zeros_like(gap)
    tiny = torch.finfo(x.dtype).tiny
    for _ in range(NEWTON_STEPS):
        full = (amount[:, None] - enough).relu().sign()  # as a comparison, in a quarter of its time
        left = gap.abs() - vecdot(full, closes)
        step = left / vecdot(1 - full, rate).clamp(min=tiny)
        # Where every pixel is full the box does not meet the plane, and the amount has no end.
        amount = torch.maximum(amount, step).clamp(max=1 / least)
    return (way * torch.minimum(amount[:, None] * pace, room)).view_as(x)


class BoundarySteps(Attack):
    """Towards the plane where the linearised z_t - z_y is 0, back towards the image after every
    success.

    `moves` planes are taken, each at a gradient; the point beyond it is only looked at, which is
    cheaper. Where that fooled outside the ball, the next plane is taken nine tenths of the way to
    it. Beyond AutoAttack: if that way enters the ball, and no point was as near before, where it
    enters is asked about too. Without it no point comes within half a percent of a plane; with it
    the attack is exact for linear classifiers. No plane is taken there: networks stood that.
    """

    cycle = 2

    def __init__(self, threat: Threat, *, moves: int, targets: int) -> None:
        super().__init__(threat, steps=4 * moves + 2, aim="each", targets=targets)
        self.moves = moves

    def start(self, lanes: Lanes, victim: Victim) -> State:
        x = lanes.begin
        no = torch.zeros_like(lanes.labels, dtype=torch.bool)
        return {
            "x": x,
            "tried": no,  # whether x lies beyond a plane
            "entry": no,  # whether x is where the ball is entered
            "back": x,
            "nearest": torch.full_like(x[:, 0, 0, 0], torch.inf),
            "end": self.threat.project(x, lanes.images),
            "planes": torch.zeros_like(lanes.labels),
            "ended": no,
        }

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return target_margin(logits, lanes)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        x, images = state["x"], lanes.images
        inside = self.threat.project(x, images)
        far = self.threat.distance(x, images)
        # Only a point beyond a plane counts: where the ball is entered is asked about on the side.
        fooled = state["tried"] & (answer.logits.argmax(1) != lanes.labels)
        enters = fooled & (far < state["nearest"]) & (BACKWARD * far <= self.threat.eps)
        retreats = fooled | state["entry"]
        back = kept(fooled, torch.lerp(images, x, BACKWARD), state["back"])
        looked = len(answer.gradient) == 0  # a point that was asked about without its gradient
        # Where the loss is no number there is no plane, and x stays.
        moved = (
            x
            if looked
            else self._moved(x, images, answer.loss.nan_to_num(0.0, 0.0, 0.0), answer.gradient)
        )
        beyond = torch.zeros_like(retreats) if looked else ~retreats
        return {
            "x": kept(enters, inside, kept(retreats, back, moved)),
            "tried": beyond,
            "entry": enters,
            "back": back,
            "nearest": torch.where(fooled, torch.minimum(far, state["nearest"]), state["nearest"]),
            "end": inside,
            "planes": state["planes"] + beyond,
            "ended": ~retreats & (state["planes"] >= self.moves),
        }

    def result(self, state: State) -> Tensor:
        return state["end"]

    def _moved(self, x: Tensor, images: Tensor, gap: Tensor, gradient: Tensor) -> Tensor:
        """Beyond the plane, from x and a little from the image, by how far either is from it."""
        # The image's own gap to the same plane, by linearity: no second gradient is needed.
        gap_of_image = gap + (gradient * (images - x)).flatten(1).sum(1)
        both = torch.cat([x, images])
        change = change_to_plane(
            self.threat, both, torch.cat([gap, gap_of_image]), torch.cat([gradient, gradient])
        )
        lengths = self.threat.distance(change, torch.zeros_like(change))
        far, far_of_image = lengths.clamp(min=1e-8).chunk(2)  # neither 0: they are divided by
        mix = per_image((far / (far + far_of_image)).clamp(max=LARGEST_MIX))
        beyond, beyond_image = (both + OVERSHOOT * change).chunk(2)
        return torch.lerp(beyond, beyond_image, mix).clamp(0, 1)


@ATTACKS.register
def fab_targeted(threat: Threat, *, steps: int = 100, targets: int = 9) -> Attack:
    """FAB towards each of the likeliest wrong classes in turn, from the image."""
    return BoundarySteps(threat, moves=steps, targets=targets)
