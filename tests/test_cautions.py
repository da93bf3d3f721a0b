"""What is said of a collapsed run, of accuracy at chance and of shifted labels."""

import math

import pytest
import torch
from torch import Tensor

from paradise_cli.evaluation.cautions import collapse_caution, confusion, label_caution
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.latents import Latents, latents

CLASSES = ["bird", "cat", "dog", "newt"]
LABELS = torch.arange(4).repeat(25)  # 25 of each


def one_of_four_wrong(labels: Tensor) -> Tensor:
    """Right for 72 of 100: in 7 of 25 groups of four the answer is the next class."""
    late = torch.arange(len(labels)) // 4 % 4 == 0
    return torch.where(late, (labels + 1) % 4, labels)


def test_a_good_model_is_not_doubted() -> None:
    assert label_caution(LABELS, LABELS, CLASSES) is None
    assert label_caution(one_of_four_wrong(LABELS), LABELS, CLASSES) is None
    assert label_caution(LABELS, torch.full_like(LABELS, -1), CLASSES) is None


@pytest.mark.parametrize(
    ("answers", "accuracy", "renamed"),
    [
        ((LABELS + 1) % 4, "0.00%", "100.00%"),  # a class before all others has moved them
        (one_of_four_wrong((LABELS + 1) % 4), "0.00%", "72.00%"),
        (torch.tensor([0, 2, 1, 3])[LABELS], "50.00%", "100.00%"),  # two have changed places
    ],
)
def test_shifted_labels_are_named_with_what_would_be_right(
    answers: Tensor, accuracy: str, renamed: str
) -> None:
    caution = label_caution(answers, LABELS, CLASSES)
    assert caution is not None and "labels look shifted" in caution
    assert f"accuracy is {accuracy}, and would be {renamed}" in caution
    assert "'cat' is answered for 'bird'" in caution or "'dog' is answered for 'cat'" in caution


def test_one_answer_for_all_is_chance() -> None:
    labels = torch.tensor([0] * 40 + [1] * 30 + [2] * 20 + [3] * 10)
    caution = label_caution(torch.zeros(100, dtype=torch.int64), labels, CLASSES)
    assert caution is not None
    assert "accuracy 40.00% is no better than always answering 'bird', 40.00%" in caution


@pytest.mark.parametrize("answer", [0, 1])
def test_labels_of_one_class_are_no_guess(answer: int) -> None:
    """Always answering it is right for all; three wrong answers of four classes may be bad luck."""
    assert (
        label_caution(torch.full((3,), answer), torch.zeros(3, dtype=torch.int64), CLASSES) is None
    )


@pytest.mark.parametrize(("n", "told"), [(19, True), (20, False)])
def test_few_images_are_a_cause_of_their_own(n: int, told: bool) -> None:
    """Five a class are enough: half of them are of one class, which is always answered."""
    labels = torch.tensor([0, 1]).repeat(10)[:n]
    caution = label_caution(torch.zeros_like(labels), labels, CLASSES)
    assert caution is not None and (f"{n} images are too few to tell, " in caution) == told


def test_fewer_right_than_by_guessing_looks_shifted() -> None:
    """No renaming fits: the wrong answers are spread over the three other classes."""
    shift = 1 + torch.arange(100) // 4 % 3
    caution = label_caution((LABELS + shift) % 4, LABELS, CLASSES)
    assert caution is not None
    assert "accuracy 0.00% is below that of guessing, 25.00%: the labels look shifted" in caution


def test_a_handful_of_images_shows_no_shift() -> None:
    """Of four images in four classes some renaming always fits."""
    caution = label_caution(torch.tensor([1, 2, 3, 0]), torch.arange(4), CLASSES)
    assert caution is not None and "shifted" not in caution


def test_random_answers_are_hardly_ever_called_shifted() -> None:
    draw = torch.Generator().manual_seed(0)
    found = [
        label_caution(torch.randint(0, 4, (100,), generator=draw), LABELS, CLASSES)
        for _ in range(200)
    ]
    assert sum("would be" in caution for caution in found if caution) == 0


def test_the_table_counts_each_pair() -> None:
    table = confusion(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_collapse_is_said_with_its_cause() -> None:
    dead = Latents(dimensions=3, active=0, concentric=0, relative_sigma=None)
    live = Latents(dimensions=3, active=2, concentric=0, relative_sigma=0.5)
    training = "train.epochs = 2 (40 steps)"
    assert collapse_caution(live, 2.3, 0.1, training) is None
    assert collapse_caution(live, None, 0.0, training) is None
    # Many inactive dimensions together may carry much.
    assert collapse_caution(dead, 1.0, 0.1, training) is None
    caution = collapse_caution(dead, 0.001, 1000.0, training)
    assert caution is not None
    assert "z carries 0.001 nats of the image, 0 of 3 dimensions are active" in caution
    assert "objective.alpha = 1000 is too large" in caution
    # Information is never negative, though a draw of its estimate can be.
    assert "z carries 0.000 nats" in str(collapse_caution(dead, -0.003, 1000.0, training))
    # A training that has hardly begun looks the same.
    assert "or train.epochs = 2 (40 steps) is too small; lower the one or raise the" in caution
    assert "likelier" not in caution
    caution = collapse_caution(dead, None, 0.0, training)
    assert caution is not None and "all means of z are one" in caution and "optim.lr" in caution


def test_a_weight_that_matches_views_is_a_cause_of_collapse() -> None:
    dead = Latents(dimensions=3, active=0, concentric=0, relative_sigma=None)
    training = "train.epochs = 2 (40 steps)"
    caution = str(collapse_caution(dead, 0.001, 0.5, training, gamma=3.0))
    assert "objective.alpha = 0.5 or objective.matching.gamma = 3 is too large" in caution
    caution = str(collapse_caution(dead, None, 0.0, training, worth=0.0, gamma=3.0))
    assert "Likely causes: objective.matching.gamma = 3 is too large" in caution
    assert "alpha" not in caution and "likelier" not in caution and "diverged" not in caution


@pytest.mark.parametrize(
    ("alpha", "worth", "named"), [(1.0, 1.0, True), (0.99, 1.0, False), (1.5, 2.0, False)]
)
def test_alpha_is_the_likelier_where_no_label_is_worth_its_rate(
    alpha: float, worth: float, named: bool
) -> None:
    """D + alpha R >= H(Y) + (alpha - worth) R for labels, as I(Y;Z) <= I(X;Z) = R."""
    dead = Latents(dimensions=3, active=0, concentric=0, relative_sigma=None)
    caution = collapse_caution(dead, 0.001, alpha, "train.epochs = 1 (2 steps)", worth)
    assert caution is not None and ("The first is likelier" in caution) == named


def test_concentric_dimensions_are_counted_apart() -> None:
    """Sigma^2 of 1 and 9: mean 5, geometric mean 3, so a rate of log(5 / 3) / 2 without a mean."""
    mu = torch.zeros(200, 3)
    mu[:, 2] = torch.randn(200, generator=torch.Generator().manual_seed(0))
    sigma = torch.ones(200, 3)
    sigma[:100, 0] = 3.0
    found = latents(DiagonalGaussian(mu, sigma))
    assert (found.active, found.concentric) == (1, 1)
    scaled = latents(DiagonalGaussian(1000 * mu, 1000 * sigma))
    assert (scaled.active, scaled.concentric) == (1, 1)


@pytest.mark.parametrize(("spread", "concentric"), [(0.09, 0), (0.11, 1)])
def test_one_percent_between_the_means_of_sigma_squared_is_the_line(
    spread: float, concentric: int
) -> None:
    """Log sigma^2 of +-s: geometric over arithmetic mean is 1 / cosh(s), 0.99 at s = 0.1418."""
    size = spread / 0.1 * math.acosh(1 / 0.99)
    log_variance = torch.tensor([size, -size]).repeat(50)[:, None]
    posterior = DiagonalGaussian(torch.zeros(100, 1), (log_variance / 2).exp())
    assert latents(posterior).concentric == concentric


def test_a_deterministic_encoder_is_not_concentric() -> None:
    found = latents(DiagonalGaussian(torch.ones(4, 2), torch.zeros(4, 2)))
    assert (found.active, found.concentric) == (0, 0)
