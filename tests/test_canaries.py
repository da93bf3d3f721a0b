"""The shipped canaries are what they say: the twin's answers, without what the twin gives away."""

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.audit import canaries
from paradise_cli.attacks.audit.canaries import CANARIES, NETWORKS, network, robust
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.core.storage import load_metadata
from paradise_cli.data import DATASETS
from paradise_cli.perturbations.threat import Linf
from tests.attack_cases import attacked, fallen

CPU = torch.device("cpu")
NO_GRADIENT = ["zero_gradient", "quantiser", "jpeg"]
PIXELWISE = [*NO_GRADIENT, "large_logits"]
N = 120


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Test images that no shipped network was trained on, and their labels."""
    split = DATASETS["digits"](None).test
    assert split is not None
    (images,) = split.fetch(torch.arange(N), N, (), False)
    return images / 255, split.labels[:N, 0]


@pytest.fixture(scope="module")
def between(digits: tuple[Tensor, Tensor]) -> Tensor:
    """Images that lie off the 8-bit lattice."""
    noise = torch.rand(digits[0].shape, generator=generator(0, "between"))
    return (digits[0] + 0.1 * (noise - 0.5)).clamp(0, 1)


def accuracy(function: Function, digits: tuple[Tensor, Tensor]) -> float:
    """Under 20 steps of PGD on the cross-entropy at eps 0.1; misclassified images count as
    errors.
    """
    outcomes = attacked(ATTACKS["pgd"](Linf(0.1), steps=20), function, *digits)
    return (len(outcomes) - int(fallen(outcomes, N).sum())) / N


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


@pytest.mark.parametrize("name", CANARIES)
def test_each_lies_in_the_module_under_its_name_and_answers(
    name: str, digits: tuple[Tensor, Tensor]
) -> None:
    canary = CANARIES[name]
    assert getattr(canaries, name) is canary and canary.name == name and canary.hides
    behaviour = examine(canary(), *digits, CPU)
    assert behaviour.random == (name == "sampled_dvib")
    assert behaviour.batch_dependent == (name == "batch_statistics")
    twin = examine(canary.twin(), *digits, CPU)
    assert not twin.random and not twin.batch_dependent


def test_the_shipped_networks_are_small_and_say_how_they_were_made() -> None:
    files = sorted(NETWORKS.glob("*.safetensors"))
    assert {canary.network for canary in CANARIES.values()} | {"robust"} == {
        file.stem for file in files
    }
    assert sum(file.stat().st_size for file in files) < 300_000
    for file in files:
        assert f"--out zoo/digits/{file.name} --net small" in load_metadata(file)["command"]


@pytest.mark.parametrize("name", NO_GRADIENT)
@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (1, 3, 5, 7)])
def test_the_gradient_is_zero_or_cut(name: str, shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=generator(0, name)).requires_grad_()
    answer = CANARIES[name](pixels)(images)
    assert answer.shape == (shape[0], images[0].numel())
    if answer.requires_grad:
        (gradient,) = torch.autograd.grad(answer.sum(), [images])
        assert not gradient.any()


def test_the_zero_gradient_layer_changes_no_bit(between: Tensor) -> None:
    canary = canaries.zero_gradient
    assert torch.equal(canary()(between), canary.twin()(between))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_quantiser_answers_as_its_base_at_the_nearest_8_bit_image(channels: int) -> None:
    levels = torch.randint(1, 255, (5, channels, 6, 4), generator=generator(0, "levels"))
    away = 0.98 * (torch.rand(levels.shape, generator=generator(0, "away")) - 0.5)
    disguised = canaries.quantiser(pixels)
    assert torch.equal(disguised(levels / 255), pixels(levels / 255))
    assert torch.equal(disguised((levels + away) / 255), pixels(levels / 255))


def test_large_logits_are_a_thousand_times_those_of_the_twin(between: Tensor) -> None:
    large, twin = canaries.large_logits()(between), canaries.large_logits.twin()(between)
    assert torch.equal(large, 1000 * twin)
    assert torch.equal(large.argmax(1), twin.argmax(1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 5, 7), (3, 17, 2), (1, 1, 1)])
def test_jpeg_keeps_a_constant_image_and_the_order_of_the_batch(
    shape: tuple[int, int, int],
) -> None:
    # Its one coefficient is 8 (v - 128), a multiple of the step of quality 75, (16 * 50 + 50) //
    # 100 = 8.
    levels = torch.tensor([0, 1, 77, 128, 254, 255]).view(-1, 1, 1, 1).expand(-1, *shape)
    assert torch.equal(canaries.jpeg(pixels)(levels / 255), pixels(levels / 255))


def test_jpeg_is_lossy_otherwise(between: Tensor) -> None:
    assert not torch.equal(canaries.jpeg(pixels)(between), canaries.quantiser(pixels)(between))


def test_the_sampled_encoder_scatters_around_its_twin(digits: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    draws, image = 20_000, digits[0][:1]
    twin = canaries.sampled_dvib.twin()
    assert isinstance(twin.linear, nn.Linear)
    with torch.no_grad():
        logits = canaries.sampled_dvib()(image.expand(draws, -1, -1, -1))
        expected = twin(image)[0]
        sigma = twin.posterior(image).sigma[0]  # type: ignore[operator]
        deviation = (twin.linear.weight.square() @ sigma.square()).sqrt()  # of linear logits of z
    assert ((logits.mean(0) - expected).abs() < 5 * deviation / draws**0.5).all()
    assert ((logits.std(0) / deviation - 1).abs() < 5 / (2 * draws) ** 0.5).all()


def test_batch_statistics_normalise_by_the_batch_and_leave_the_base_alone() -> None:
    layer = nn.BatchNorm2d(2).eval()
    base = nn.Sequential(layer, nn.Flatten())
    images = torch.rand(6, 2, 3, 3, generator=generator(0, "batch"))
    answer = canaries.batch_statistics(base)(images).view(6, 2, 9)
    torch.testing.assert_close(answer.mean((0, 2)), torch.zeros(2), atol=1e-6, rtol=0)
    variance = images.var((0, 2, 3), correction=0)
    torch.testing.assert_close(answer.var((0, 2), correction=0), variance / (variance + layer.eps))
    torch.testing.assert_close(base(images), images.flatten(1) / (1 + layer.eps) ** 0.5)


@pytest.mark.parametrize("name", ["sampled_dvib", "batch_statistics"])
def test_a_base_that_cannot_wear_the_disguise_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} needs"):
        CANARIES[name](pixels)


def test_the_robust_network_stands_where_the_standard_one_falls(
    digits: tuple[Tensor, Tensor],
) -> None:
    behaviour = examine(robust(), *digits, CPU)
    assert not behaviour.random and not behaviour.batch_dependent
    assert accuracy(robust(), digits) > accuracy(network("standard"), digits) + 0.25


@pytest.mark.parametrize("name", PIXELWISE)
def test_pgd_does_not_see_that_the_canary_is_no_more_robust_than_its_twin(
    name: str, digits: tuple[Tensor, Tensor]
) -> None:
    assert accuracy(CANARIES[name](), digits) > accuracy(CANARIES[name].twin(), digits) + 0.25


def test_equal_answers_under_noise_are_no_robustness(digits: tuple[Tensor, Tensor]) -> None:
    net, (images, labels) = network("noise"), digits
    noise = 0.2 * torch.rand(20, *images.shape, generator=generator(0, "noise")) - 0.1
    under_noise = net((images + noise).clamp(0, 1).flatten(0, 1)).argmax(1) == labels.repeat(20)
    worst = float(under_noise.view(20, N).all(0).float().mean())
    assert worst > accuracy(net, digits) + 0.15
