"""Every shipped recipe, built on synthetic images of its data's shape, takes two steps."""

import math
from dataclasses import replace

import pytest
import torch

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.data import batches, synthetic
from paradise_cli.inference.features import behind_backbone
from paradise_cli.recipe.files import shipped_recipes
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.step import Step

CPU = torch.device("cpu")
NAMES = sorted(shipped_recipes())


def test_the_recipes_of_the_paper_are_shipped() -> None:
    cifar = {
        f"cifar10_rn{depth}_{kind}"
        for depth in (20, 32, 56, 110)
        for kind in ("standard", "paradise")
    }
    mnist = {
        f"{data}_{kind}"
        for data in ("mnist", "fashion_mnist")
        for kind in ("supervised", "unsupervised")
    }
    others = {
        "digits",
        "celeba_mse",
        "cifar10_wrn_28_10",
        "cifar10_jpeg75_rn20",
        "beta_vae",
        "dvib",
    }
    imagenet = {"imagenet_rn34_standard", "imagenet_rn34_paradise"}
    robust = {
        f"cifar10_wrn_{kind}"
        for kind in ("pm", "dvib", "dvib_pm", "adv", "trades", "llr", "pm_adversarial")
    }
    assert cifar | mnist | others | imagenet | robust | {"imagenet_rn34_pm"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_with_finite_loss(name: str) -> None:
    changes = ["train.precision=fp32"]
    # Of a wide network one recipe is walked at full width; of the others the views are what is new.
    if name.startswith("cifar10_wrn_") and name != "cifar10_wrn_28_10":
        changes.append("model.backbone.width=1")
    recipe = load_recipe(name, changes).recipe
    info = build_info(recipe)
    # The same of a network for large images, which pools whatever is left of them.
    if name.startswith("imagenet_") and name != "imagenet_rn34_pm":
        info = replace(info, shape=(3, 64, 64))
    # As `prepare` does: behind a frozen backbone its features are what is learnt from.
    model, info = behind_backbone(build_model(recipe, info).train(), info)
    objective = build_objective(recipe, info).train()
    optimizer, plan = build_optimizer(recipe, model.parameters()), build_plan(recipe, model, CPU)
    step = Step(model, objective, optimizer, plan, CPU)
    before = model.mu.weight.clone()
    train = synthetic(info, 4).train
    for number, batch in enumerate(
        batches(train, order=torch.arange(4), batch_size=2, device=CPU, augment=plan.augment)
    ):
        terms = step(batch, number)
        assert all(math.isfinite(value.item()) for value in terms.values()), terms
    assert not torch.equal(model.mu.weight, before)


@pytest.mark.parametrize("name", NAMES)
def test_where_the_rate_of_a_batch_saturates_a_fitted_twin_is_beside(name: str) -> None:
    recipe = load_recipe(name).recipe
    if (
        recipe.model.stochastic
        and recipe.model.latent_dim >= 32
        and recipe.objective.rate.q == "batch"
    ):
        twin = load_recipe(f"{name}_fitted").recipe
        assert twin.objective.rate.q == "fitted"
        assert twin.model == recipe.model and twin.optim == recipe.optim
