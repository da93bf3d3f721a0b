"""Sources with a known rate-distortion function: their samples have the moments that the curve
stands for.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from paradise_cli.build import build_data
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.data import DATASETS, batches, info_of
from paradise_cli.inference.loading import load
from paradise_cli.information.blahut_arimoto import blahut_arimoto
from paradise_cli.information.closed_forms import gaussian
from paradise_cli.information.known_sources import BANANA_THICKNESS, banana, bend
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.train import train
from paradise_cli.training.loop import Reporter

CPU = torch.device("cpu")
N = 40_000


def values(name: str, **hyper: Any) -> torch.Tensor:
    """The training examples as a training sees them, float64 [N, K]."""
    bundle = DATASETS[name](None, n=N, **hyper)
    (batch,) = batches(bundle.train, order=torch.arange(N), batch_size=N, device=CPU)
    assert batch.images.shape == (N, *bundle.info.shape) and batch.labels.shape == (N, 0)
    assert bundle.info == info_of(name, None, n=N, **hyper)
    return batch.images.double().flatten(1)


TWO_VARIANCES = {"variances": [4.0, 0.25]}


@pytest.mark.parametrize(
    ("name", "hyper", "statistic", "expected", "spread"),
    [
        ("gaussian_source", TWO_VARIANCES, torch.square, [4.0, 0.25], [32**0.5, 0.125**0.5]),
        ("bernoulli_source", {"p": 0.3}, torch.square, [0.3], [math.sqrt(0.21)]),
        ("laplacian_source", {"scale": 2.0}, torch.abs, [2.0], [2.0]),
        ("laplacian_source", {"scale": 2.0}, torch.sign, [0.0], [1.0]),
        # E x2^2 = 1 + 0.2^2; Var x2^2 < E x2^4 = 15 + 6 * 0.04 + 3 * 0.0016
        ("banana_source", {}, torch.square, [1.0, 1.04], [2**0.5, 15.3**0.5]),
        ("banana_source", {}, lambda x: x, [0.0, 0.0], [1.0, 1.04**0.5]),
    ],
)  # fmt: skip
def test_moments(
    name: str, hyper: dict[str, Any], statistic: Any, expected: list[float], spread: list[float]
) -> None:
    measured = statistic(values(name, **hyper)).mean(0)
    error = torch.tensor(spread, dtype=torch.float64) / math.sqrt(N)
    assert ((measured - torch.tensor(expected, dtype=torch.float64)).abs() < 5 * error).all()


def test_values_are_not_scaled_as_pixels_are() -> None:
    assert set(values("bernoulli_source", p=0.5).unique().tolist()) == {0.0, 1.0}


def test_train_and_test_are_drawn_apart_and_always_alike() -> None:
    first, second = (
        DATASETS["gaussian_source"](None, variances=[1.0], n=100, test=100) for _ in range(2)
    )
    assert first.test is not None and second.test is not None
    assert torch.equal(first.train.images, second.train.images)  # type: ignore[attr-defined]
    assert not torch.equal(first.train.images, first.test.images)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "hyper", "reason"),
    [
        ("gaussian_source", {"variances": []}, "numbers > 0"),
        ("gaussian_source", {"variances": [1.0, 0.0]}, "numbers > 0"),
        ("bernoulli_source", {"p": 1.0}, "between 0 and 1"),
        ("laplacian_source", {"scale": 0.0}, "number > 0"),
        ("banana_source", {"n": 0}, "at least 1"),
        ("banana_source", {"test": 0}, "at least 1"),
    ],
)
def test_a_source_that_is_none_is_refused(name: str, hyper: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        DATASETS[name](None, **hyper)


def test_the_banana_is_bent_along_its_parabola() -> None:
    u = torch.linspace(-2, 2, 5)
    bent = bend(torch.stack([u, torch.ones(5)], 1))
    assert torch.allclose(bent[:, 0], u)
    assert torch.allclose(bent[:, 1], (u**2 - 1) / math.sqrt(2) + BANANA_THICKNESS)


@pytest.mark.parametrize("slope", [1.0, 5.0])
def test_the_banana_lies_between_shannon_and_the_gaussian_of_its_covariance(slope: float) -> None:
    """h(X) is that of (u, 0.2 v), as the bend keeps areas; of all densities the Gaussian costs
    most.
    """
    (point,) = blahut_arimoto(
        banana().source, torch.tensor([slope]).double(), tolerance=1e-3
    ).points
    entropy = math.log(2 * math.pi * math.e) + math.log(BANANA_THICKNESS)
    shannon = entropy - math.log(math.pi * math.e * point.distortion)
    assert shannon < point.upper
    assert point.lower < gaussian([1.0, 1.04]).rate(point.distortion)


@pytest.mark.parametrize(
    ("name", "hyper", "output", "expected"),
    [
        ("squared_error", {"link": "identity"}, 3.0, 4.0),
        ("squared_error", {}, 0.0, 0.25),
        ("absolute_error", {"link": "identity"}, 3.0, 2.0),
        ("absolute_error", {}, math.log(3), 0.25),
    ],
)
def test_a_link_is_between_the_decoder_and_the_values(
    name: str, hyper: dict[str, Any], output: float, expected: float
) -> None:
    """Of the value 1 from this output."""
    distortion = DISTORTIONS[name](**hyper)
    one = torch.ones(1, 1, 1, 1)
    measured = distortion.per_example(one * output, one, torch.empty(1, 0))
    assert measured.tolist() == pytest.approx([expected])
    assert distortion.unit == name.replace("_", " ")


def test_values_reach_a_model_as_they_are(tmp_path: Path) -> None:
    """`encode` of the data set sees N(0, 8), not what a byte leaves of it; and there is no picture
    of it.
    """
    small = ["data.n=256", "data.test=50", "train.epochs=1", "data.validation=0.0"]
    recipe = load_recipe("gaussian_source", small).recipe
    folder = train(recipe, out=tmp_path / "run", device="cpu", report=Reporter()).folder
    model = load(str(folder), "cpu")
    test = build_data(recipe).test
    assert test is not None
    (batch,) = batches(test, order=torch.arange(50), batch_size=50, device=CPU)
    with torch.no_grad():
        expected = model.model.encode(batch.images).mu
    assert torch.allclose(
        torch.from_numpy(model.encode("gaussian_source").mean), expected, atol=1e-5
    )
    with pytest.raises(ParadiseError, match="no picture"):
        model.reconstruct("gaussian_source")
