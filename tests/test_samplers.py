"""Random views of images: the same in any batch, within [0, 1], and spread as they say."""

import io
import math
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import keyed_uniform
from paradise_cli.core.yaml import parse
from paradise_cli.perturbations.jpeg import round_trip
from paradise_cli.perturbations.samplers import SAMPLERS, window
from paradise_cli.recipe.check import validate
from paradise_cli.recipe.components import Component, OneOf, Strict, expand
from tests.sampler_cases import SETTINGS, drawn, keys, sampler, smooth_images

GREY = torch.full((16, 3, 32, 32), 0.5)
NAMES = sorted(SETTINGS)
RANDOM = [name for name in NAMES if name != "image"]


def test_every_sampler_that_draws_at_random_has_a_row() -> None:
    # An adversarial view depends on a model; tests/test_views.py has its promises.
    assert set(SETTINGS) == set(SAMPLERS) - {"adversarial"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_images_of_the_same_shape(name: str, channels: int) -> None:
    soft = smooth_images(6, channels)
    images = torch.cat([soft, soft.round()])  # with many pixels at the very ends
    views = drawn(sampler(name), images, keys(12))
    assert views.shape == images.shape and views.dtype == images.dtype
    assert 0 <= float(views.min()) and float(views.max()) <= 1
    # Of pixels at the ends, more contrast leaves nothing to see.
    changed = (views - images).flatten(1).abs().amax(1)[:6] > 0
    assert bool(changed.all()) is (name != "image")


@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_the_same_in_any_batch_and_order(name: str) -> None:
    images, chosen = smooth_images(37), sampler(name)
    views = drawn(chosen, images, keys(37))
    order = torch.randperm(37, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn(chosen, images[order], keys(37)[order]), views[order])
    for part in torch.arange(37).split(5):
        assert torch.equal(drawn(chosen, images[part], keys(37)[part]), views[part])
    laid = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(drawn(chosen, laid, keys(37)), views)


@pytest.mark.parametrize("name", RANDOM)
def test_another_key_is_another_view(name: str) -> None:
    same = smooth_images(1).expand(8, -1, -1, -1)
    views = drawn(sampler(name), same, keys(8, seed=1))
    apart = (views[:, None] - views).flatten(2).abs().amax(2)
    assert int((apart > 0).sum()) >= 8 * 7 - 4  # JPEG has 81 qualities, of which two may agree


@pytest.mark.parametrize("name", NAMES)
def test_views_of_doubles_are_doubles(name: str) -> None:
    images = smooth_images(4)
    views = drawn(sampler(name), images.double(), keys(4))
    assert views.dtype == torch.float64
    # On average: a frequency half-way between two of JPEG's steps may go to the other one.
    assert float((views - drawn(sampler(name), images, keys(4))).abs().mean()) < 1e-3


# So weak that the view is the image: what is added, turned or smoothed goes to 0 with them.
WEAK: list[tuple[str, dict[str, Any]]] = [
    ("blur", {"sigma": 0.01}),
    ("box_jitter", {"place": 1e-6, "size": 1e-6}),
    ("brightness_contrast", {"brightness": 1e-6, "contrast": 1e-6}),
    ("corner", {"eps": 1e-6}),
    ("crop", {"share": 1 - 1e-6}),
    ("gaussian", {"sigma": 1e-6}),
    ("image", {}),
    ("rotation", {"degrees": 1e-4}),
    ("translation", {"share": 1e-6}),
    ("uniform", {"eps": 1e-6}),
]


@pytest.mark.parametrize(("name", "settings"), WEAK, ids=[name for name, _ in WEAK])
def test_without_strength_the_view_is_the_image(name: str, settings: dict[str, Any]) -> None:
    images = smooth_images(5)
    torch.testing.assert_close(
        drawn(sampler(name, **settings), images, keys(5)), images, rtol=0, atol=2e-5
    )


def test_corners_are_eps_away_to_both_sides_alike() -> None:
    change = drawn(sampler("corner", eps=0.03), GREY, keys(16)) - GREY
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.03), rtol=0, atol=1e-6)
    # A mean of n signs has standard deviation 1 / sqrt(n).
    assert abs(float(change.sign().mean())) < 4 / math.sqrt(change.numel())


@pytest.mark.parametrize(
    ("name", "settings", "variance", "fourth"),
    [
        # The variance of a square is E x^4 - (E x^2)^2.
        ("uniform", {"eps": 0.3}, 0.3**2 / 3, 0.3**4 / 5),
        ("gaussian", {"sigma": 0.05}, 0.05**2, 3 * 0.05**4),
    ],
)
def test_noise_has_its_mean_and_variance(
    name: str, settings: dict[str, Any], variance: float, fourth: float
) -> None:
    change = (drawn(sampler(name, **settings), GREY, keys(16)) - GREY).double()
    count = change.numel()
    assert abs(float(change.mean())) < 4 * math.sqrt(variance / count)
    spread = math.sqrt((fourth - variance**2) / count)
    assert abs(float(change.square().mean()) - variance) < 4 * spread


def test_the_parts_of_a_composition_draw_by_themselves() -> None:
    """Two independent signs agree upwards for a quarter of all values, and downwards too."""
    both = sampler("composition", of=[sampler("corner", eps=0.1)] * 2)
    change = drawn(both, GREY, keys(16)) - GREY
    count = change.numel()
    for value, share in ((0.2, 0.25), (0.0, 0.5), (-0.2, 0.25)):
        found = float(((change - value).abs() < 1e-6).double().mean())
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_the_parts_of_a_composition_follow_each_other() -> None:
    """Without noise first, contrast has nothing to stretch in a grey image."""
    noise, stretch = (
        sampler("corner", eps=0.1),
        sampler("brightness_contrast", brightness=0.0, contrast=0.9),
    )
    first = drawn(sampler("composition", of=[stretch, noise]), GREY, keys(16))
    torch.testing.assert_close((first - 0.5).abs(), torch.full_like(first, 0.1), rtol=0, atol=1e-6)
    last = drawn(sampler("composition", of=[noise, stretch]), GREY, keys(16))
    assert float(((last - 0.5).abs() - 0.1).abs().mean()) > 0.01


class Views(Strict):
    """A section of a recipe that lists samplers."""

    views: list[Annotated[Component, OneOf(SAMPLERS)]]


def views_of(text: str) -> tuple[Views | None, list[str]]:
    """The section, and what is wrong with it."""
    document = parse(text, "r.yaml")
    document.data = expand(Views, document.data)
    found = validate(Views, document)
    return found, [str(problem) for problem in document.problems]


def test_a_recipe_lists_the_parts_of_a_composition() -> None:
    found, problems = views_of(
        "views: [image, {name: composition, of: [image, {name: corner, eps: 51/255}]}]"
    )
    assert found is not None and not problems
    parts = [{"name": "image"}, {"name": "corner", "eps": 0.2}]
    assert found.model_dump()["views"] == [parts[0], {"name": "composition", "of": parts}]
    spec = found.views[1]
    views = drawn(SAMPLERS[spec.name](**spec.hyper), GREY, keys(16))
    torch.testing.assert_close((views - 0.5).abs(), torch.full_like(views, 0.2), rtol=0, atol=1e-6)
    assert "sampler_composition" in Views.model_json_schema()["$defs"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("[]", "views.0.of: should not be empty (got [])"),
        ("corner", "views.0.of: should be a list such as ['corner'] (got 'corner')"),
        ("[corner]", "views.0.of.0.eps: required by sampler 'corner', but missing"),
        ("[{name: corner, eps: 8}]", "views.0.of.0.eps: should be at most 1 (got 8)"),
        ("[conrer]", "views.0.of.0.name: unknown sampler 'conrer'; did you mean 'corner'? known: "),
        ("[{name: composition}]", "views.0.of.0.name: unknown sampler 'composition'; known: "),
    ],
)
def test_a_wrong_part_is_named_at_its_place(parts: str, said: str) -> None:
    _, (problem,) = views_of(f"views: [{{name: composition, of: {parts}}}]")
    assert said in problem


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seen(images: Tensor, down: float, across: float, degrees: float = 0.0) -> Tensor:
    """What a window of the image's own size sees from there."""
    angle = torch.deg2rad(numbers(degrees))
    one = numbers(1.0)
    return window(images, (one, one), (numbers(down), numbers(across)), angle)


def test_a_shift_by_whole_pixels_rolls_the_image_and_repeats_its_border() -> None:
    image = smooth_images(1, 3, (20, 30))
    torch.testing.assert_close(seen(image, 0, 0), image, rtol=0, atol=1e-5)
    moved = seen(image, 3 / 20, -4 / 30)
    rolled = image.roll((-3, 4), (2, 3))
    torch.testing.assert_close(moved[..., :17, 4:], rolled[..., :17, 4:], rtol=0, atol=1e-5)
    below = image[..., -1:, :26].expand(-1, -1, 3, -1)
    torch.testing.assert_close(moved[..., 17:, 4:], below, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_right_angles_are_exact(turns: int) -> None:
    image = smooth_images(1, 3, (24, 24))
    turned = torch.rot90(image, -turns, (2, 3))
    torch.testing.assert_close(seen(image, 0, 0, 90.0 * turns), turned, rtol=0, atol=1e-4)


def test_a_window_magnifies_a_ramp_by_its_sides() -> None:
    """Bilinear reading of values linear in the place gives just those values."""
    height, width = 21, 33
    ramp = (torch.arange(height)[:, None] * 0.5 + torch.arange(width)) / 60
    half, part = numbers(0.5), numbers(0.25)
    view = window(ramp[None, None], (half, part), (numbers(0.1), numbers(-0.2)))[0, 0]
    rows = (torch.arange(height) - 10) * 0.5 + 10 + 0.1 * height
    columns = (torch.arange(width) - 16) * 0.25 + 16 - 0.2 * width
    torch.testing.assert_close(view, (rows[:, None] * 0.5 + columns) / 60, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "farthest"),
    [
        ("translation", {"share": 0.2}, 0.2),
        ("box_jitter", {"place": 0.1, "size": 0.2}, 0.1 + 0.2 / 2),
        # A window never leaves the image, and of the side s its border pixel lies 1 - s away.
        ("crop", {"share": 0.6}, 0.4),
    ],
)
def test_no_pixel_comes_from_farther_away_than_the_settings_say(
    name: str, settings: dict[str, Any], farthest: float
) -> None:
    """In an image that is its own place, a view says where each pixel comes from."""
    place = (torch.arange(40) + 0.5) / 40
    images = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(300, 2, 40, 40)
    moved = (drawn(sampler(name, **settings), images, keys(300)) - images).abs().amax((2, 3))
    assert float(moved.max()) <= farthest + 1e-5
    assert float(moved.max()) > 0.8 * farthest  # 600 draws come near the ends
    # Down and across are drawn by themselves, but for the common size of a crop.
    assert float(moved.T.corrcoef()[0, 1].abs()) < (0.2 if name != "crop" else 0.99)


def test_blur_keeps_constants_and_the_mean_and_is_that_of_torchvision() -> None:
    chosen = sampler("blur", sigma=2.0)
    torch.testing.assert_close(drawn(chosen, GREY, keys(16)), GREY, rtol=0, atol=1e-6)
    images = smooth_images(16, 3, (24, 24))
    views = drawn(chosen, images, keys(16))
    torch.testing.assert_close(views.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=1e-6)
    sigmas = 2 * keyed_uniform(keys(16), (1,))[:, 0]
    for image, view, sigma in zip(images, views, sigmas, strict=True):
        peer = gaussian_blur(image, [15, 15], [float(sigma)] * 2)
        # Where the filter does not reach the border, at which the two mirror in different ways.
        torch.testing.assert_close(view[:, 8:-8, 8:-8], peer[:, 8:-8, 8:-8], rtol=0, atol=1e-3)


def test_blur_of_an_image_smaller_than_its_filter_keeps_its_mean() -> None:
    images = smooth_images(8, 1, (3, 5))
    views = drawn(sampler("blur", sigma=6.0), images, keys(8))
    torch.testing.assert_close(views.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=1e-6)


def test_brightness_and_contrast_are_a_line_through_the_mean() -> None:
    images = 0.3 + 0.4 * smooth_images(200, 3, (8, 8))  # so that nothing is clipped
    views = drawn(sampler("brightness_contrast", brightness=0.1, contrast=0.2), images, keys(200))
    mean = images.mean((1, 2, 3), keepdim=True)
    centred = (images - mean).flatten(1)
    gain = (centred * views.flatten(1)).sum(1) / centred.square().sum(1)  # least squares
    lighter = views.mean((1, 2, 3)) - mean.flatten()
    line = gain.view(-1, 1, 1, 1) * (images - mean) + mean + lighter.view(-1, 1, 1, 1)
    torch.testing.assert_close(views, line, rtol=0, atol=1e-5)
    for drawn_values, bound in ((gain - 1, 0.2), (lighter, 0.1)):
        assert 0.9 * bound < float(drawn_values.abs().max()) <= bound + 1e-5
        # Of n uniform numbers the mean has standard deviation bound / sqrt(3 n).
        assert abs(float(drawn_values.mean())) < 4 * bound / math.sqrt(3 * 200)
    assert abs(float(torch.stack([gain, lighter]).corrcoef()[0, 1])) < 4 / math.sqrt(200)


def of_pillow(image: Tensor, quality: int) -> Tensor:
    """The image [C, H, W] after a JPEG file, as another library writes and reads it."""
    levels = (255 * image).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels.squeeze()).save(file, "JPEG", quality=quality)
    found = np.asarray(Image.open(file)).reshape(levels.shape)
    return torch.from_numpy(found.copy()).permute(2, 0, 1) / 255


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(32, 32), (45, 37)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_other_encoders(quality: int, size: tuple[int, int], channels: int) -> None:
    images = smooth_images(8, channels, size)
    found = round_trip(images, torch.full((8,), float(quality)))
    peer = torch.stack([of_pillow(image, quality) for image in images])
    # Few frequencies lie half-way between two steps, where they round the other way.
    assert 255 * float((found - peer).abs().mean()) < 1
    if quality <= 30:
        lost = float((images - peer).abs().mean())
        assert float((found - peer).abs().mean()) < 0.1 * lost


def test_jpeg_draws_the_quality_up_to_100() -> None:
    """At one quality for all images it is that of the file; a range has its share of each."""
    images = smooth_images(300, 1, (8, 8))
    views = drawn(sampler("jpeg", quality=99), images, keys(300))
    at_99, at_100 = (round_trip(images, torch.full((300,), q)) for q in (99.0, 100.0))
    as_99 = (views == at_99).flatten(1).all(1)
    as_100 = (views == at_100).flatten(1).all(1)
    assert bool((as_99 | as_100).all())
    told_apart = as_99 != as_100
    share = float(as_99[told_apart].float().mean())
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(int(told_apart.sum()))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("corner", {"eps": 0.0}, "'corner': eps: should be greater than 0"),
        ("uniform", {"eps": 1.5}, "'uniform': eps: should be less than or equal to 1"),
        ("corner", {"eps": math.nan}, "'corner': eps: "),
        ("corner", {"eps": "8/255"}, "'corner': eps: should be a valid number"),
        ("gaussian", {"sigma": 0.0}, "'gaussian': sigma: should be greater than 0"),
        ("gaussian", {"sigma": math.inf}, "'gaussian': sigma: should be a finite number"),
        ("blur", {"sigma": -1.0}, "'blur': sigma: should be greater than 0"),
        ("jpeg", {"quality": 0}, "'jpeg': quality: should be greater than or equal to 1"),
        ("jpeg", {"quality": 101}, "'jpeg': quality: should be less than or equal to 100"),
        ("rotation", {"degrees": 0.0}, "'rotation': degrees: should be greater than 0"),
        ("translation", {"share": 1.0}, "'translation': share: should be less than 1"),
        ("crop", {"share": 1.0}, "'crop': share: should be less than 1"),
        ("box_jitter", {"place": 0.0, "size": 0.0}, "'box_jitter': place and size are both 0"),
        (
            "brightness_contrast",
            {"brightness": 0.0, "contrast": 0.0},
            "'brightness_contrast': brightness and contrast are both 0",
        ),
    ],
)
def test_a_strength_that_is_none_is_refused(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^sampler {said}"):
        SAMPLERS[name](**settings)


def test_a_setting_that_there_is_not_is_python_s_to_refuse() -> None:
    with pytest.raises(TypeError, match="epsilon"):
        SAMPLERS["corner"](eps=0.1, epsilon=0.1)
