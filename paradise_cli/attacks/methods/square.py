"""Square attack: random search over windows that shrink (Andriushchenko et al. 2020).

See method.md 5.3.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from paradise_cli.attacks.methods.random_search import Proposals
from paradise_cli.attacks.protocol.lanes import ATTACKS, Attack, Lanes
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.perturbations.threat import Threat

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries p, the share of the pixels that a window covers, halves."""
_TINY = 1e-12


class Window(NamedTuple):
    """One square for each lane: `rows` [B, H, 1] and `columns` [B, 1, W] count from its corner.

    `side` is [B, 1, 1].
    """

    rows: Tensor
    columns: Tensor
    side: Tensor

    @property
    def inside(self) -> Tensor:
        """1 for the pixels in it and 0 for the others, float [B, 1, H, W]."""
        # A mask and no index: lanes have windows of different sizes, and no shape may depend on
        # the data.
        tall = (self.rows >= 0) & (self.rows < self.side)
        wide = (self.columns >= 0) & (self.columns < self.side)
        return (tall.float() * wide.float())[:, None]


class Square(Proposals):
    """What both norms share: the schedule of p, and windows of p h w pixels anywhere."""

    def __init__(self, threat: Threat, *, queries: int, p: float, rescale: bool) -> None:
        super().__init__(threat, steps=queries)
        self.p, self.rescale = p, rescale

    def stage(self, step: Tensor) -> Tensor:
        """How often p has halved when point number `step` is proposed, int64 [B].

        The first point is number 0 and needs no window.
        """
        iteration = step - 1
        # The schedule is written for 10,000 queries; few queries should see small windows too.
        if self.rescale:
            iteration = torch.div(iteration * 10_000, self.steps, rounding_mode="floor")
        return torch.bucketize(iteration, _halvings(step.device))

    def side(self, stage: Tensor, height: int, width: int) -> Tensor:
        """The side of a window, int64 [B]; at most the image's shorter side."""
        # In double: a side that rounds otherwise on another device would be another attack.
        pixels = self.p * height * width * torch.pow(0.5, stage.double())
        return pixels.sqrt().round().long().clamp(1, min(height, width))

    def window(self, noise: Tensor, stage: Tensor, height: int, width: int) -> Window:
        """A window wherever there is room for it, by uniform noise [B, 2]."""
        side = self.side(stage, height, width)
        top = (noise[:, 0] * (height - side + 1)).long()
        left = (noise[:, 1] * (width - side + 1)).long()
        rows = torch.arange(height, device=noise.device) - top[:, None]
        columns = torch.arange(width, device=noise.device) - left[:, None]
        return Window(rows[:, :, None], columns[:, None], side[:, None, None])


class SquareLinf(Square):
    """Vertical stripes of +-eps; each query fills one window with +-eps, one sign a channel."""

    def first(self, lanes: Lanes) -> Tensor:
        # Convolutional networks are most sensitive to stripes, of all cheap patterns (section 3.4).
        channels, _, width = lanes.images.shape[1:]
        stripes = (keyed_uniform(lanes.key, (channels, 1, width), 0) - 0.5).sign()
        return self._pushed(lanes.images, stripes)

    def propose(self, lanes: Lanes, best: Tensor) -> Tensor:
        channels, height, width = best.shape[1:]
        # All of a query's noise in one draw: two for the corner, one for flips, one a channel.
        noise = keyed_uniform(lanes.key, (3 + channels,), lanes.step)
        inside = self.window(noise[:, :2], self.stage(lanes.step), height, width).inside
        signs = (noise[:, 3:] - 0.5).sign()[:, :, None, None]
        x = torch.lerp(best, self._pushed(lanes.images, signs), inside)
        # Signs that change nothing would waste the query. Flipping a random choice of channels then
        # makes the other signs equally likely, as if drawn again until something changes.
        same = (x - best).flatten(1).abs().amax(1) == 0
        flips = 1 + (noise[:, 2:3] * (2**channels - 1)).long()
        flipped = (flips >> torch.arange(channels, device=best.device)) % 2 == 1
        signs = torch.where((same[:, None] & flipped)[:, :, None, None], -signs, signs)
        return torch.lerp(best, self._pushed(lanes.images, signs), inside)

    def _pushed(self, images: Tensor, signs: Tensor) -> Tensor:
        return (images + self.threat.eps * signs).clamp(0, 1)


class SquareL2(Square):
    """A grid of bumps; each query moves the length of two windows into one, as a new bump."""

    def side(self, stage: Tensor, height: int, width: int) -> Tensor:
        # A bump has a centre, so that its side is odd, and from 3 on it has a slope.
        odd = super().side(stage, height, width).clamp(min=3) | 1
        return odd.clamp(max=min(height, width))

    def first(self, lanes: Lanes) -> Tensor:
        channels, height, width = lanes.images.shape[1:]
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        noise = keyed_uniform(lanes.key, (channels + 1, down, 1, across, 1), 0)
        upright = _bumps((side,), noise.device)[0][:, None]  # [side, 1, side]
        bumps = torch.where(noise[:, :1] > 0.5, upright.transpose(0, 2), upright)
        change = ((noise[:, 1:] - 0.5).sign() * bumps).reshape(
            -1, channels, down * side, across * side
        )
        # The grid need not fill the image: what is left over is shared between the edges.
        below = height - down * side
        beside = width - across * side
        margins = (beside // 2, beside - beside // 2, below // 2, below - below // 2)
        return self._scaled(lanes.images, pad(change, margins))

    def propose(self, lanes: Lanes, best: Tensor) -> Tensor:
        channels, height, width = best.shape[1:]
        noise = keyed_uniform(lanes.key, (5 + channels,), lanes.step)
        stage = self.stage(lanes.step)
        window = self.window(noise[:, :2], stage, height, width)
        emptied = self.window(noise[:, 2:4], stage, height, width).inside
        change = best - lanes.images
        inside = window.inside
        old = change * inside
        signs = (noise[:, 5:] - 0.5).sign()[:, :, None, None]
        # Half a new bump, half what was there: progress is changed and not thrown away.
        new = signs * self._bump(window, stage, noise[:, 4] > 0.5) + old / (_length(old) + _TINY)
        # A channel may use the length that it had in both windows and its share of what clipping
        # left.
        spare = (self.threat.eps**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp(min=0)
        length = (
            spare / channels + _length(change * torch.maximum(inside, emptied)).square()
        ).sqrt()
        moved = torch.lerp(change * (1 - emptied), new * (length / (_length(new) + _TINY)), inside)
        return self._scaled(lanes.images, moved)

    def _bump(self, window: Window, stage: Tensor, lying: Tensor) -> Tensor:
        """The bump in each lane's window, 0 outside, [B, 1, H, W]."""
        height, width = window.rows.shape[1], window.columns.shape[2]
        # All bumps that will ever be needed, in one table: lanes differ in stage, and pick theirs.
        every = torch.arange(len(HALVINGS) + 1)
        table = _bumps(tuple(self.side(every, height, width).tolist()), stage.device)
        last = table.shape[1] - 1
        # Clamped, so that pixels outside the window read something, which the mask then drops.
        rows = window.rows.clamp(0, last)
        columns = window.columns.clamp(0, last)
        lying = lying[:, None, None]
        down = torch.where(lying, columns, rows)
        across = torch.where(lying, rows, columns)
        chosen = table[stage[:, None, None], down, across]
        return chosen[:, None] * window.inside

    def _scaled(self, images: Tensor, change: Tensor) -> Tensor:
        return self.threat.project(images + self.threat.eps * self.threat.steepest(change), images)


def bump(side: int) -> Tensor:
    """A hill over a hollow of length 1, each falling off as a sum of inverse squares."""
    return _unit(torch.cat([_hill(side // 2, side), -_hill(side - side // 2, side)])).float()


def _hill(height: int, width: int) -> Tensor:
    """Sum of 1 / (k + 1)^2 over the rectangles k or fewer pixels about the centre, at length 1."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(rows[:, None], columns)  # the smallest k that reaches a pixel
    inverse = (1 + torch.arange(max(height, width) // 2 + 1)).double().square().reciprocal()
    return _unit(inverse.flip(0).cumsum(0).flip(0)[ring])


def _unit(values: Tensor) -> Tensor:
    return values / values.square().sum().sqrt().clamp(min=_TINY)


@cache
def _halvings(device: torch.device) -> Tensor:
    return torch.tensor(HALVINGS, device=device)


@cache
def _bumps(sides: tuple[int, ...], device: torch.device) -> Tensor:
    """The bumps of these sides, each in the corner of a square of the largest side S, [n, S, S]."""
    largest = max(sides)
    return torch.stack([pad(bump(side), (0, largest - side) * 2) for side in sides]).to(device)


def _length(change: Tensor) -> Tensor:
    """Euclidean length of each channel, [B, C, 1, 1]."""
    return change.square().sum((2, 3), keepdim=True).sqrt()


@ATTACKS.register
def square(threat: Threat, *, queries: int = 5000, p: float = 0.8, rescale: bool = True) -> Attack:
    """Random search over square windows, for margins; asks for no gradient (method.md 5.3).

    The schedule of p is that of 10,000 queries, shrunk to as many as there are; AutoAttack's own
    driver runs the first 5,000 of it (rescale=False). Raises UsageError for a p outside (0, 1] or
    no queries.
    """
    if not 0 < p <= 1 or queries < 1:
        raise UsageError(
            f"square: p must lie in (0, 1] and queries be 1 or more, not {p:g} and {queries}"
        )
    attack = SquareLinf if threat.name == "linf" else SquareL2
    return attack(threat, queries=queries, p=p, rescale=rescale)
