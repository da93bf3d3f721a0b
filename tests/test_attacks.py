"""Every attack against classifiers whose robustness is known exactly; a new attack is one row."""

from typing import Any, NamedTuple

import pytest
import torch

from paradise_cli.attacks import ATTACKS
from paradise_cli.perturbations.threat import NORMS
from tests.attack_cases import LinearEncoder, attacked, eps_that_fells_half, fallen


class Case(NamedTuple):
    """`exact`: for two classes it must break all that can be broken.

    `share`: the part of those that it must break for ten classes, and for two if it is not exact.
    Where nothing is derived that is about half of what it does break.
    """

    attack: str
    hyper: dict[str, Any]
    exact: bool
    share: float


CASES = [
    Case("fgsm", {}, True, 0.4),
    Case("r_fgsm", {}, False, 0.05),
    # Towards a random one of nine wrong classes: mostly a farther one than the nearest.
    Case("step_rand", {}, True, 0.05),
    Case("iter_rand", {}, True, 0.05),
    Case("pgd_rand", {"steps": 50, "step_size": 0.05}, True, 0.05),
    Case("pgd", {"steps": 50}, True, 0.8),
    Case("pgd", {"steps": 50, "loss": "margin", "restarts": 10}, True, 0.99),
    # A linear classifier has the same gradient everywhere, so that noise takes nothing from it.
    Case("noisy_pgd", {"steps": 50}, True, 0.8),
    Case("untargeted", {"steps": 40, "restarts": 2}, True, 0.9),
    Case("multi_targeted", {"steps": 40, "restarts": 1}, True, 1.0),
    Case("apgd", {"steps": 30}, True, 0.8),
    Case("apgd", {"steps": 30, "loss": "dlr"}, True, 0.8),
    Case("apgd_targeted", {"steps": 30}, True, 1.0),
    Case("fab_targeted", {"steps": 10}, True, 1.0),
    # Few queries for the test's sake.
    Case("square", {"queries": 60}, False, 0.05),
    Case("random_search", {"draws": 40}, False, 0.02),
    Case("random_search", {"draws": 40, "kind": "corner"}, False, 0.03),
    Case("label_only", {"queries": 250, "restarts": 1}, False, 0.12),
    Case("spsa", {"steps": 4, "samples": 8, "lr": 0.1}, False, 0.1),
    # These push the posterior wherever it moves most, which is seldom where another class is near.
    Case("latent_mean", {"steps": 20, "restarts": 4}, False, 0.1),
    Case("latent_sigma", {"steps": 20, "restarts": 4}, False, 0.1),
    Case("latent_shift", {"steps": 20, "restarts": 4}, False, 0.04),
    Case("latent_towards", {"steps": 50}, False, 0.1),
]


def means_of(name: str, classes: int) -> dict[str, Any]:
    """Where a class has its mean: far out along its own logit."""
    return {"means": 100 * torch.eye(classes)} if name == "latent_towards" else {}


def test_every_attack_has_a_row() -> None:
    assert {case.attack for case in CASES} == set(ATTACKS)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.attack} {case.hyper}")
def test_never_below_the_exact_robustness_and_as_near_as_it_should(
    case: Case, classes: int, norm: str
) -> None:
    n, found_in_all, can_in_all = 24, 0, 0
    for seed in range(4):
        linear = LinearEncoder(classes, seed)
        images, labels = linear.problem(n, seed)
        radius = linear.radius(images, labels, norm)
        threat = eps_that_fells_half(radius, NORMS[norm])
        made = ATTACKS[case.attack](threat, **case.hyper, **means_of(case.attack, classes))
        outcomes = attacked(made, linear, images, labels)
        found, can = fallen(outcomes, n), radius <= threat.eps
        assert not (found & ~can).any()
        found_in_all, can_in_all = found_in_all + int(found.sum()), can_in_all + int(can.sum())
        for outcome in outcomes:
            origin = images[outcome.job.image][None]
            assert bool(threat.contains(outcome.point[None], origin))
            if outcome.succeeded:
                assert int(linear(outcome.point[None]).argmax(1)) != int(labels[outcome.job.image])
    assert found_in_all >= (1.0 if classes == 2 and case.exact else case.share) * can_in_all
