"""Samplers S(x): random neighbours of images, as training and evaluation draw them (method.md 3.3).

A view depends on its image and its key alone: it is the same on any device and in any batch.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Annotated, ParamSpec, Protocol, TypeAlias

import torch
from pydantic import ConfigDict, Field, ValidationError, validate_call
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import derived_keys, keyed_normal, keyed_uniform
from paradise_cli.core.registry import Registry
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.jpeg import round_trip
from paradise_cli.perturbations.threat import per_image


class Encoder(Protocol):
    """What a sampler may ask of the model that its views are for."""

    @property
    def module(self) -> nn.Module: ...

    def encode(self, images: Tensor) -> DiagonalGaussian: ...

    def logits(self, z: Tensor) -> Tensor: ...


Sampler: TypeAlias = Callable[[Tensor, Tensor, Encoder, Tensor], Tensor]
"""`(images [B, C, H, W] in [0, 1], labels [B], model, keys int64 [B]) -> views`, the same shape,
in [0, 1]; a key is a function of seed, image and step. Never waits for the device."""

SAMPLERS: Registry[Sampler] = Registry("sampler")

Radius = Annotated[float, Field(gt=0, le=1)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(gt=0, lt=1)]
PartOrNone = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(gt=0, le=180)]
Pixels = Annotated[float, Field(gt=0, le=100)]
Quality = Annotated[int, Field(ge=1, le=100)]

P = ParamSpec("P")


def checked(factory: Callable[P, Sampler]) -> Callable[P, Sampler]:
    """The factory, with the bounds of its hyper-parameters checked also where Python calls it.

    Raises UsageError that names the sampler, the value and what is allowed.
    """
    # A recipe is checked against the same annotations, which name its line.
    call: Callable[P, Sampler] = validate_call(config=ConfigDict(strict=True))(factory)

    @wraps(factory)
    def made(*args: P.args, **hyper: P.kwargs) -> Sampler:
        signature(factory).bind(*args, **hyper)  # a missing or unknown one is Python's to refuse
        try:
            return call(*args, **hyper)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            problem = first["msg"].replace("Input should", "should")
            raise UsageError(
                f"sampler '{factory.__name__}': {name}: {problem} (got {first['input']!r})"
            ) from error

    return made


@SAMPLERS.register
@checked
def composition(*, of: Annotated[list[Sampler], Field(min_length=1), SAMPLERS]) -> Sampler:
    """One sampler after the other, each on what the one before has made."""

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        for number, part in enumerate(of):
            # Of the same key, two parts of one kind would draw the same numbers.
            images = part(images, labels, model, derived_keys(keys, number))
        return images

    return sampler


# Noise on each value. --------------------------------------------------------------------------


def unchanged(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
    """The images, whatever the keys are."""
    return images


@SAMPLERS.register
def image() -> Sampler:
    """The image itself."""
    return unchanged


@SAMPLERS.register
@checked
def uniform(*, eps: Radius) -> Sampler:
    """Adds to each value a number drawn uniformly from -eps to eps, in pixel units."""

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        noise = 2 * keyed_uniform(keys, images.shape[1:]) - 1
        return (images + eps * noise.to(images.dtype)).clamp(0, 1)

    return sampler


@SAMPLERS.register
@checked
def corner(*, eps: Radius) -> Sampler:
    """Adds eps or -eps to each value, as likely the one as the other (a corner of the ball)."""

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        noise = (keyed_uniform(keys, images.shape[1:]) - 0.5).sign()
        return (images + eps * noise.to(images.dtype)).clamp(0, 1)

    return sampler


@SAMPLERS.register
@checked
def gaussian(*, sigma: Deviation) -> Sampler:
    """Adds to each value a normal number of standard deviation sigma, in pixel units."""

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        noise = keyed_normal(keys, images.shape[1:])
        return (images + sigma * noise.to(images.dtype)).clamp(0, 1)

    return sampler


# Geometry: where in the image each pixel of the view lies. ---------------------------------------


@SAMPLERS.register
@checked
def crop(*, share: Part) -> Sampler:
    """A window at a random place, resized back; its sides are at least this share of the image's.

    The share of an image is uniform from `share` to 1. Bilinear.
    """

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        across, down, size = _signed(keys, 3)
        side = 1 - (1 - share) * (size + 1) / 2
        # So far that the window stays within the image.
        room = (1 - side) / 2
        return window(images, (side, side), (down * room, across * room))

    return sampler


@SAMPLERS.register
@checked
def rotation(*, degrees: Degrees) -> Sampler:
    """Turns the image around its centre by up to this angle, either way.

    Bilinear; the nearest pixel of the border stands for what lies outside of the image.
    """

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        (turn,) = _signed(keys, 1)
        still, whole = torch.zeros_like(turn), torch.ones_like(turn)
        return window(images, (whole, whole), (still, still), torch.deg2rad(degrees * turn))

    return sampler


@SAMPLERS.register
@checked
def translation(*, share: Part) -> Sampler:
    """Shifts the image by up to this share of its height and of its width, either way.

    Bilinear, as shifts are no whole pixels; border as in `rotation`.
    """

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        down, across = _signed(keys, 2)
        whole = torch.ones_like(down)
        return window(images, (whole, whole), (share * down, share * across))

    return sampler


@SAMPLERS.register
@checked
def box_jitter(*, place: PartOrNone, size: PartOrNone) -> Sampler:
    """The image as a detector's box that is a little off, in place and in size (paper section 5).

    Its centre moves by up to `place` of its height and width, and each side is multiplied by a
    number from 1 - size to 1 + size. Bilinear; border as in `rotation`.
    """
    _require_one("box_jitter", place=place, size=size)

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        down, across, taller, wider = _signed(keys, 4)
        sides = (1 + size * taller, 1 + size * wider)
        return window(images, sides, (place * down, place * across))

    return sampler


def window(
    images: Tensor,
    sides: tuple[Tensor, Tensor],
    centre: tuple[Tensor, Tensor],
    angle: Tensor | None = None,
) -> Tensor:
    """What is seen through a window of each image, [B, C, H, W], bilinear.

    `sides` and `centre` are (down, across) [B]: the window's height and width, and how far its
    centre lies from the image's, as shares of the image's height and width. `angle` [B], in
    radians, turns it around its centre. Outside of the image lies the nearest pixel of its border.
    """
    height, width = images.shape[2:]
    device = images.device
    # In double, and by single products: a sum that depended on the batch would move the pixels.
    rows = torch.arange(height, device=device, dtype=torch.float64).view(-1, 1) - (height - 1) / 2
    columns = torch.arange(width, device=device, dtype=torch.float64) - (width - 1) / 2
    down = sides[0].view(-1, 1, 1) * rows  # [B, H, 1]
    across = sides[1].view(-1, 1, 1) * columns  # [B, 1, W]
    if angle is not None:
        cosine, sine = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
        down, across = cosine * down - sine * across, cosine * across + sine * down
    # Of `grid_sample`: -1 and 1 are the outer edges of the image.
    y = 2 * down / height + 2 * centre[0].view(-1, 1, 1)
    x = 2 * across / width + 2 * centre[1].view(-1, 1, 1)
    shape = (len(images), height, width)
    grid = torch.stack([x.expand(shape), y.expand(shape)], -1).to(images.dtype)  # [B, H, W, 2]
    seen = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Weights that should add up to 1 may round to more.
    return seen.clamp(0, 1)


# What cameras and files do to an image. ----------------------------------------------------------


@SAMPLERS.register
@checked
def blur(*, sigma: Pixels) -> Sampler:
    """Gaussian blur; its standard deviation in pixels is uniform from 0 to sigma.

    Beyond its border the image is mirrored, so that blur keeps the mean.
    """
    # Farther away a normal density has a thousandth of its mass.
    reach = int(3.3 * sigma) + 1

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        width = sigma * keyed_uniform(keys, (1,)).double()
        taps = torch.arange(-reach, reach + 1, device=images.device)
        weights = torch.exp(-0.5 * (taps / width).square())  # [B, 2 reach + 1]
        weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
        return _weighted(_weighted(images, weights, 2), weights, 3).clamp(0, 1)

    return sampler


@SAMPLERS.register
@checked
def jpeg(*, quality: Quality) -> Sampler:
    """What JPEG leaves of the image, at a quality drawn uniformly from `quality` to 100."""

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        drawn = keyed_uniform(keys, (1,))[:, 0] * (101 - quality)
        return round_trip(images, quality + drawn.floor())

    return sampler


@SAMPLERS.register
@checked
def brightness_contrast(*, brightness: PartOrNone, contrast: PartOrNone) -> Sampler:
    """Adds a number up to `brightness` to all values, and stretches them around their mean.

    Either way; the stretch is a number from 1 - contrast to 1 + contrast.
    """
    _require_one("brightness_contrast", brightness=brightness, contrast=contrast)

    def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
        lighter, stronger = (per_image(each) for each in _signed(keys, 2))
        # In double: the order of a sum of so many values depends on the batch.
        mean = images.mean((1, 2, 3), keepdim=True, dtype=torch.float64)
        gain = 1 + contrast * stronger
        offset = mean * (1 - gain) + brightness * lighter
        return (gain.to(images.dtype) * images + offset.to(images.dtype)).clamp(0, 1)

    return sampler


def _weighted(images: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Each image with its own `weights` [B, 2 reach + 1] as a filter along one axis, mirrored."""
    size = images.shape[dim]
    reach = weights.shape[1] // 2
    place = torch.arange(size, device=images.device)
    total = torch.zeros_like(images)
    # Tap by tap: a convolution of one kernel per image would round by the size of the batch.
    for tap in range(2 * reach + 1):
        # Mirrored with its border pixel, as often as the filter is longer than the image.
        source = (place + (tap - reach)) % (2 * size)
        source = torch.minimum(source, 2 * size - 1 - source)
        total = total + per_image(weights[:, tap]) * images.index_select(dim, source)
    return total


def _signed(keys: Tensor, count: int) -> tuple[Tensor, ...]:
    """`count` numbers uniform in (-1, 1) of each image, float64 [B] each."""
    return (2 * keyed_uniform(keys, (count,)).double() - 1).unbind(1)


def _require_one(sampler: str, **values: float) -> None:
    """Raise UsageError where all are 0, so that the sampler would do nothing."""
    if not any(values.values()):
        raise UsageError(f"sampler '{sampler}': {' and '.join(values)} are both 0; raise one")
