"""Quantities of claims, on posteriors, logs and classifiers whose numbers are known."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from paradise_cli.core.errors import ParadiseError
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.reproduction.quantities import (
    QUANTITIES,
    Measured,
    Network,
    posteriors,
    robustness,
)
from paradise_cli.reproduction.quantities.posteriors import _ranks
from paradise_cli.robustness.classifiers import NamedClassifier
from paradise_cli.robustness.examples import Examples
from paradise_cli.training.run_folder import RunFolder

EPS = 0.05


def measured(name: str, *networks: Any, **settings: Any) -> Measured:
    return QUANTITIES[name](**settings)(networks)


def encoder(mu: list[list[float]], sigma: float, labels: list[int], classes: int = 10) -> Any:
    """A network of which only posteriors and labels are asked."""
    means = torch.tensor(mu, dtype=torch.float64)
    names = tuple(map(str, range(classes)))
    return SimpleNamespace(
        name="encoder",
        posterior=DiagonalGaussian(means, torch.full_like(means, sigma)),
        opened=SimpleNamespace(split=SimpleNamespace(labels=torch.tensor(labels)[:, None])),
        loaded=SimpleNamespace(info=SimpleNamespace(targets=[SimpleNamespace(classes=names)])),
    )


def test_volumes_are_relative_to_all_posteriors_together() -> None:
    # Means at +-1 and sigma = 1: the aggregate has variance 1 + 1.
    one = encoder([[-1.0], [1.0]], 1.0, [0, 1])
    assert measured("log_volume", one).value == pytest.approx(-0.5 * math.log(2))
    wider = encoder([[-10.0], [10.0]], 10.0, [0, 1])  # the same z in another unit
    assert measured("log_volume", wider).value == pytest.approx(-0.5 * math.log(2))


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_overlap_is_bhattacharyyas(apart: float) -> None:
    found = measured("overlap", encoder([[0.0, 0.0], [apart, 0.0]], 1.0, [0, 1]))
    assert found.value == pytest.approx(math.exp(-(apart**2) / 8))


@pytest.mark.parametrize("partners", [1000, 7])
def test_the_interval_of_an_overlap_is_one_over_images(
    partners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors, "PARTNERS", partners)
    # Of 100 images 70 share one posterior and 30 another, far away: pairs overlap by 1 or by 0.
    found = measured("overlap", encoder([[0.0]] * 70 + [[1e3]] * 30, 1.0, [0] * 100))
    assert found.n == 100
    if partners < 99:
        return
    assert found.value == pytest.approx((70 * 69 + 30 * 29) / (100 * 99))
    # An image's own mean is 69 / 99 or 29 / 99: a variance of 0.21 (40 / 99)^2. t(0.975, 99).
    spread = math.sqrt(100 / 99 * 0.21) * 40 / 99
    half = 1.984217 * 2 * spread / math.sqrt(100)
    assert found.high - found.value == pytest.approx(half, rel=1e-4)
    assert found.value - found.low == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("partners", [1000, 10])
def test_overlaps_of_other_images_differ_as_the_interval_says(
    partners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors, "PARTNERS", partners)
    draw, found = torch.Generator().manual_seed(0), []
    for _ in range(300):
        far = (torch.rand(60, generator=draw) < 0.25).double() * 1e3
        found.append(measured("overlap", encoder([[each] for each in far], 1.0, [0] * 60)))
    values = np.array([each.value for each in found])
    # All pairs overlap by p^2 + q^2 in the mean, with a variance of 4 p q (p - q)^2 / n, and what
    # pairs add: 2 times their own over the number of ordered ones, where each counts twice.
    p, q, n = 0.75, 0.25, 60
    share = p * p + q * q
    error = math.sqrt(4 * p * q * (p - q) ** 2 / n)
    assert values.mean() == pytest.approx(share, abs=4 * error / math.sqrt(300))
    pairs = n * min(partners, n - 1) / (2 if partners >= n else 1)
    rest = (share * (1 - share) - 2 * p * q * (p - q) ** 2) / pairs
    assert values.std() == pytest.approx(math.sqrt(error**2 + rest), rel=0.15)
    missed = [not each.low <= share <= each.high for each in found]
    assert sum(missed) / len(missed) < 0.1


def test_the_rate_by_distributions_is_between_nothing_and_log_n() -> None:
    same = encoder([[1.0, 2.0]] * 60, 0.3, [0] * 60)
    assert measured("rate_by_distributions", same).value == pytest.approx(0.0, abs=1e-9)
    apart = encoder([[100.0 * place] for place in range(60)], 1.0, [0] * 60)
    assert measured("rate_by_distributions", apart).value == pytest.approx(math.log(60), abs=1e-9)


def test_the_objective_is_distortion_plus_alpha_times_the_rate() -> None:
    distortion = SimpleNamespace(sampled=2.0, sampled_error=0.1, n=50)
    rate = SimpleNamespace(exact=SimpleNamespace(nats=3.0, standard_error=0.2, n=50))
    evaluation = SimpleNamespace(distortion=[distortion], rate=rate)
    recipe = SimpleNamespace(objective=SimpleNamespace(alpha=0.5))
    found = measured(
        "objective",
        SimpleNamespace(
            name="encoder",
            measurement=SimpleNamespace(evaluation=evaluation),
            loaded=SimpleNamespace(recipe=recipe),
        ),
    )
    half = 1.959964 * (0.1 + 0.5 * 0.2)
    assert (found.value, found.n) == (3.5, 50)
    assert (found.low, found.high) == pytest.approx((3.5 - half, 3.5 + half))


def test_neighbours_and_how_classes_mix() -> None:
    places = [[0.0], [0.1], [5.0], [5.1]]
    assert measured("neighbours", encoder(places, 1.0, [0, 0, 1, 1])).value == 1.0
    assert measured("neighbours", encoder(places, 1.0, [0, 1, 0, 1])).value == 0.0
    # Of ten classes at random 2 of 90 ordered pairs lie in {4, 9}; here all four do, or half.
    apart = encoder(places, 1.0, [4, 9, 9, 4])
    assert measured("mixing", apart, groups=[[4, 9]]).value == pytest.approx(1 - 2 / 90)
    half = encoder(places, 1.0, [4, 9, 4, 3])
    assert measured("mixing", half, groups=[[4, 9]]).value == pytest.approx(0.5 - 2 / 90)


def test_of_classes_that_do_not_mix_there_is_no_share() -> None:
    network = encoder([[0.0], [0.1], [5.0], [5.1]], 1.0, [0, 0, 1, 1])
    with pytest.raises(ParadiseError, match="has its own class, so that no classes mix"):
        measured("mixing", network, groups=[[0, 1]])
    with pytest.raises(ParadiseError, match="one image overlaps with no other"):
        measured("overlap", encoder([[0.0]], 1.0, [0]))


def test_ranks_of_ties_are_their_means() -> None:
    values = np.random.default_rng(0).integers(0, 20, 100)
    assert torch.equal(_ranks(torch.tensor(values)), torch.tensor(rankdata(values) - 1))


def trained(**terms: list[float]) -> Any:
    """A network of which only the log is asked."""
    epochs = zip(*terms.values(), strict=True)
    records = [{"train": dict(zip(terms, values, strict=True))} for values in epochs]
    return SimpleNamespace(name="trained", run=SimpleNamespace(records=lambda: records))


def test_what_a_log_says() -> None:
    network = trained(distortion=[2.0, 1.0, 0.1, 0.1, 0.1], matching=[1.0, 0.9, 0.8, 0.4, 0.2])
    assert measured("fall", network, term="distortion").value == pytest.approx(0.95)
    assert measured("last", network, term="matching").value == 0.2
    # 0.1 is below a tenth of 2.0 from the third epoch on: 0.6 of the fall of 0.8 comes after it.
    late = measured("late_fall", network, term="matching", when="distortion", below=0.1)
    assert late.value == pytest.approx(0.75)
    assert measured("finite", network).value == 1.0
    assert measured("finite", trained(loss=[1.0, math.inf])).value == 0.0
    with pytest.raises(ParadiseError, match="its log has no 'rate', but: distortion, matching"):
        measured("fall", network, term="rate")
    with pytest.raises(ParadiseError, match="never falls below"):
        measured("late_fall", network, term="matching", when="matching", below=0.1)
    with pytest.raises(ParadiseError, match="does not fall"):
        measured("late_fall", trained(a=[1.0, 0.0], b=[1.0, 2.0]), term="b", when="a", below=0.5)


@pytest.fixture
def recipes(tmp_path: Path) -> Any:
    def of(name: str) -> Any:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.keep_recipe(load_recipe(f"digits_small_{name}").recipe.resolved())
        return SimpleNamespace(name=name, run=run)

    return of


def test_passes_are_counted(recipes: Any) -> None:
    # Five steps of attack, each there and back, and the training's own.
    robust, standard = recipes("robust"), recipes("standard")
    assert measured("passes_ratio", robust, standard).value == 6.0
    with pytest.raises(ParadiseError, match="is of two networks, not of robust"):
        measured("passes_ratio", robust)


def test_the_share_of_the_score(recipes: Any) -> None:
    network = recipes("standard")
    # 4 operations for each of 64 posteriors and 16 latents. Convolutions of 3 x 3 from 1 to 16 to
    # 24 to 32 channels, with strides 1, 2 and 2 at 8 x 8, twice to a multiplication and addition;
    # the second layer's and the head's weights as they are, backward twice as much.
    share = measured("score_share", network).value
    operations = 4 * 64 * 16 / share
    forward = 2 * 9 * (64 * 16 + 16 * 16 * 24 + 4 * 24 * 32)
    assert 2 * forward < operations < 3.5 * forward


class Linear(nn.Module):
    """Two classes, by the side of a plane."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        score = ((images - 0.5) * self.weights).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def classifier(weights: Tensor, images: Tensor, labels: Tensor) -> Network:
    """A network that is this classifier, on these images."""
    network: Any = Network("linear", Path(), EPS, 60)
    module = Linear(weights).eval()
    network.classifier = NamedClassifier(module, "linear", "linear")
    network.loaded = SimpleNamespace(device=torch.device("cpu"))
    found = Examples(images, labels, "made", tuple(map(str, range(len(images)))))
    network.examples = lambda n=None: found
    return network  # type: ignore[no-any-return]


@pytest.fixture
def linear() -> tuple[Network, Network, Tensor]:
    """Two orthogonal classifiers on the same images; and where the first stands."""
    draw = torch.Generator().manual_seed(0)
    images = 0.5 + 0.2 * torch.randn(60, 1, 4, 4, generator=draw).clamp(-2, 2)
    first = torch.randn(1, 4, 4, generator=draw)
    second = torch.randn(1, 4, 4, generator=draw)
    second -= (second * first).sum() / first.square().sum() * first
    labels = Linear(first)(images).argmax(1)
    stands = Linear(first)(images)[:, 1].abs() > EPS * first.abs().sum()
    networks = [classifier(weights, images, labels) for weights in (first, second)]
    return networks[0], networks[1], stands


def test_attacks_on_a_linear_classifier(linear: tuple[Network, Network, Tensor]) -> None:
    one, _, stands = linear
    share = stands.double().mean().item()
    assert 0.1 < share < 0.9
    # Nothing beats one signed step, and more steps end at the same corner.
    for steps in (1, 20):
        assert measured("accuracy_after_steps", one, steps=steps).value == pytest.approx(share)
    assert measured("robust_accuracy", one, suite="quick").value == pytest.approx(share)
    assert measured("steps_worth", one).value == pytest.approx(1.0, abs=1e-5)
    assert measured("black_box_accuracy", one, one).value == pytest.approx(share)
    assert measured("black_box_gain", one, one).value == 0.0


def test_of_a_flat_loss_there_is_no_share(linear: tuple[Network, Network, Tensor]) -> None:
    examples = linear[0].examples()
    flat = classifier(torch.zeros(1, 4, 4), examples.images, examples.labels)
    with pytest.raises(ParadiseError, match="its loss does not rise in 10 steps"):
        measured("steps_worth", flat)


class Sampled(Linear):
    """The same with a latent: the score itself, as uncertain as it is large."""

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        score = ((images - 0.5) * self.weights).flatten(1).sum(1, keepdim=True)
        return DiagonalGaussian(score, 1 + 5 * score.square())

    def classify(self, z: Tensor) -> Tensor:
        return torch.cat([-z, z], 1)


def sampled(network: Network, noise: bool = True) -> Network:
    """The network, as one with a latent."""
    weights: Any = network.classifier.function.weights  # type: ignore[union-attr]
    examples = network.examples()
    made: Any = classifier(weights, examples.images, examples.labels)
    made.classifier = NamedClassifier(Sampled(weights).eval(), "sampled", "sampled")
    model = SimpleNamespace(stochastic=noise)
    made.loaded = SimpleNamespace(device=torch.device("cpu"), model=model)
    return made  # type: ignore[no-any-return]


def test_what_sampling_hides_is_one_number(linear: tuple[Network, Network, Tensor]) -> None:
    """Drawn z mislead the steps, by the same draws whatever was drawn before."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(measured("hidden_by_sampling", sampled(linear[0])))
    assert found[0] == found[1] and found[0].n == 60
    # Where the mean decides, the corner is reached; a draw of the wrong sign steps back.
    assert 0 < found[0].value < 1
    with pytest.raises(ParadiseError, match="there is no z to draw"):
        measured("hidden_by_sampling", sampled(linear[0], noise=False))


def test_a_sampled_slope_is_taken_where_the_network_is(
    linear: tuple[Network, Network, Tensor],
) -> None:
    examples, elsewhere = linear[0].examples(), torch.device("meta")
    weights: Any = linear[0].classifier.function.weights  # type: ignore[union-attr]
    slope = robustness._sampled_slope(Sampled(weights).to(elsewhere), examples, elsewhere)
    # All was done there, up to bringing back what such a device does not keep.
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        slope(examples.images, 0)


def test_gradients_of_linear_classifiers(linear: tuple[Network, Network, Tensor]) -> None:
    one, other, _ = linear
    assert measured("gradient_cosine", one, one).value == pytest.approx(1.0, abs=1e-6)
    # Opposed gradients are as far from orthogonal as equal ones.
    images, labels = one.examples().images, one.examples().labels
    opposed = classifier(-one.classifier.function.weights, images, labels)  # type: ignore[union-attr,operator]
    for name in ("gradient_cosine", "gradient_cosine_by_differences"):
        found = measured(name, one, opposed)
        assert found.value == pytest.approx(1.0, abs=1e-3) and 0.9 < found.low <= found.high
    assert measured("gradient_cosine", one, other).value < 1e-6
    # 16 pixels, 256 directions: each image's cosine is known to about 1 / 16.
    again = measured("gradient_cosine_by_differences", one, one).value
    assert again == pytest.approx(1.0, abs=1e-3)
    assert measured("gradient_cosine_by_differences", one, other).value < 0.1
    # The slope is along the weights: alike only as far as the image is.
    weights = one.classifier.function.weights.flatten()  # type: ignore[union-attr]
    images = one.examples().images.flatten(1)
    images = images - images.mean(1, keepdim=True)
    cosines = (images @ weights).abs() / (images.norm(dim=1) * weights.norm())
    found = measured("gradient_alignment", one).value
    assert found == pytest.approx(cosines.mean().item(), abs=1e-5)
