"""Every attack against classifiers whose robustness is known exactly; a new attack is one row."""

from typing import Any

import pytest

from paradise_cli.attacks import ATTACKS
from paradise_cli.perturbations.threat import NORMS
from tests.attack_cases import Linear, attacked, eps_that_fells_half, fallen

# attack, hyper-parameters, exact for two classes, share of the images that fall for ten that it
# must fell
CASES: list[tuple[str, dict[str, Any], bool, float]] = [
    ("fgsm", {}, True, 0.4),
    ("pgd", {"steps": 50}, True, 0.8),
    ("pgd", {"steps": 50, "loss": "margin", "restarts": 10}, True, 0.99),
    ("untargeted", {"steps": 40, "restarts": 2}, True, 0.9),
    ("multi_targeted", {"steps": 40, "restarts": 1}, True, 1.0),
    ("apgd", {"steps": 30}, True, 0.8),
    ("apgd", {"steps": 30, "loss": "dlr"}, True, 0.8),
    ("apgd_targeted", {"steps": 30}, True, 1.0),
    ("fab_targeted", {"steps": 10}, True, 1.0),
    # Few queries for the test's sake: shares that about half of what they find would still reach.
    ("square", {"queries": 60}, False, 0.05),
    ("random_search", {"draws": 40}, False, 0.02),
    ("random_search", {"draws": 40, "kind": "corner"}, False, 0.03),
    ("spsa", {"steps": 4, "samples": 8, "lr": 0.1}, False, 0.1),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(("name", "hyper", "exact", "share"), CASES, ids=lambda value: str(value))
def test_never_below_the_exact_robustness_and_as_near_as_it_should(
    name: str, hyper: dict[str, Any], exact: bool, share: float, classes: int, norm: str
) -> None:
    n, found_in_all, can_in_all = 24, 0, 0
    for seed in range(10):
        linear = Linear(classes, seed)
        images, labels = linear.problem(n, seed)
        radius = linear.radius(images, labels, norm)
        threat = eps_that_fells_half(radius, NORMS[norm])
        outcomes = attacked(ATTACKS[name](threat, **hyper), linear, images, labels)
        found, can = fallen(outcomes, n), radius <= threat.eps
        assert not (found & ~can).any()
        found_in_all, can_in_all = found_in_all + int(found.sum()), can_in_all + int(can.sum())
        for outcome in outcomes:
            origin = images[outcome.job.image][None]
            assert bool(threat.contains(outcome.point[None], origin))
            if outcome.succeeded:
                assert int(linear(outcome.point[None]).argmax(1)) != int(labels[outcome.job.image])
    assert found_in_all >= (1.0 if classes == 2 and exact else share) * can_in_all
