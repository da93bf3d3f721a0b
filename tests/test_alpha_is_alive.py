"""The knob works: the exact rate falls as alpha grows, where the estimator of q can see it."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from paradise_cli.build import build_data, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.evaluation.passes import posteriors
from paradise_cli.information.rate import ExactRate, exact_rate
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.alarms import alarms
from paradise_cli.training.loop import Fit, Reporter

CPU = torch.device("cpu")
QUICK = ["train.epochs=4", "train.precision=fp32", "model.backbone.hidden=[128]"]


class Records(Reporter):
    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def epoch(self, record: dict[str, Any]) -> None:
        self.all.append(record)


def trained(*overrides: str) -> tuple[ExactRate, Records]:
    """The exact rate of the test images after a short training on digits, and the epochs'
    records.
    """
    recipe = load_recipe("digits", [*QUICK, *overrides]).recipe
    data, records = build_data(recipe), Records()
    model, objective = build_model(recipe, data.info), build_objective(recipe, data.info)
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    plan = build_plan(recipe, model, CPU)
    Fit(model, objective, optimizer, plan, CPU, records).run(data.train)
    assert data.test is not None
    return exact_rate(posteriors(model, data.test, CPU)), records


@pytest.mark.parametrize(
    ("latent_dim", "q", "alpha"),
    [
        (2, "batch", 0.03),
        (2, "pairwise", 0.04),
        (8, "bank", 0.05),
        (32, "fitted", 0.01),
        (32, "mixture", 0.01),
        (32, "vamp", 0.01),
    ],
)
def test_the_exact_rate_falls_with_alpha(latent_dim: int, q: str, alpha: float) -> None:
    overrides = [f"model.latent_dim={latent_dim}", f"objective.rate={{q: {q}}}"]
    rates = [trained(*overrides, f"objective.alpha={alpha * factor}")[0] for factor in (0, 10, 100)]
    for weak, strong in pairwise(rates):
        assert strong.nats < weak.nats - 3 * (weak.standard_error + strong.standard_error)
    assert rates[-1].nats < 0.5 * rates[0].nats


def test_with_q_from_the_batch_the_alarm_tells_that_alpha_is_dead_at_32_latents() -> None:
    _, records = trained("model.latent_dim=32", "objective.alpha=0.01")
    (alarm,) = alarms(records.all)
    assert alarm.kind == "rate_at_cap" and "alpha has no effect here" in alarm.text
