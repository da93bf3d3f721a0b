"""One process of a training in several, as `torchrun` would start it.

`python -m tests.share_ranks steps FOLDER` takes a few steps of every case, in float64, and writes
what came of them; `... lengthy FOLDER` thirty steps of one with averaged weights; `whole` and
`parts` a few with batches computed at once and in two parts, and `measured` what an evaluation
finds. Each file is `WHAT-WORLD-RANK.npz`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from paradise_cli.build import (
    build_average,
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
)
from paradise_cli.core.processes import join, rank, world_size
from paradise_cli.core.shares import Share, all_processes
from paradise_cli.data import batches, keep_labels, synthetic
from paradise_cli.evaluation import passes
from paradise_cli.evaluation.evaluate import measure_loaded
from paradise_cli.evaluation.evaluation_data import split_for
from paradise_cli.inference.loading import load
from paradise_cli.information import rate
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.step import Step

CPU = torch.device("cpu")
IMAGES = 120
CORNERS = "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]"
CASES = {
    f"batch {gradient}": [f"objective.rate={{q: batch, gradient: {gradient}}}"]
    for gradient in ("full", "path", "paper")
}
CASES |= {
    f"bank {gradient}": [f"objective.rate={{q: bank, size: 40, gradient: {gradient}}}"]
    for gradient in ("full", "path", "paper")
}
CASES |= {
    f"vamp {gradient}": [f"objective.rate={{q: vamp, components: 7, gradient: {gradient}}}"]
    for gradient in ("full", "path")
}
CASES |= {
    f"mixture {gradient}": [f"objective.rate={{q: mixture, components: 3, gradient: {gradient}}}"]
    for gradient in ("path", "paper")
}
CASES |= {
    f"fitted {covariance}": [f"objective.rate={{q: fitted, covariance: {covariance}}}"]
    for covariance in ("full", "diagonal")
}
CASES |= {
    "pairwise": ["objective.rate={q: pairwise}"],
    "fixed": ["objective.rate={q: fixed}"],
    "squared": ["objective.lagrangian=squared"],
    "full covariance": ["model.covariance=full"],
    "few labels": ["data.labelled=50"],
    "crops": ["data.augment=[crop, flip]"],
    "matched": [CORNERS, "objective.matching={distance: l1, gamma: 10, warmup_steps: 4}"],
    "matched, scale-free": [
        CORNERS,
        "objective.matching={distance: {name: wasserstein, normalise: true}, gamma: 10}",
    ],
    "outputs matched": [
        CORNERS, "objective.matching={of: outputs, distance: {name: kl}, gamma: 2}"
    ],
    "paired with a neighbour": [
        CORNERS,
        "objective.matching={of: outputs, distance: {name: squared}, gamma: 1, partner: other}",
    ],
    "adversarial view": [
        "views=[image, {name: adversarial, eps: 0.1, loss: both}]",
        "objective.matching={distance: l1, gamma: 1}",
    ],
    "linearity": [
        "views=[image, {name: adversarial, eps: 0.1, loss: linearity, steps: 2}]",
        "objective.linearity={gamma: 4, slope: 3}",
    ],
    "info_nce": [
        CORNERS,
        "objective.tasks=[{distortion: info_nce, head: {name: projection, hidden: [9]}}]",
    ],
    "several tasks": [
        "objective.tasks=[{distortion: cross_entropy, head: linear},"
        " {distortion: squared_error, head: {name: mlp_decoder, hidden: [9]}, weight: 0.1}]",
    ],
}  # fmt: skip

SEPARABLE = {
    "no rate": ["model.stochastic=false", "objective.alpha=0"],
    "fixed": CASES["fixed"],
    "vamp full": CASES["vamp full"],
    "vamp path": CASES["vamp path"],
    "full covariance": [*CASES["fixed"], "model.covariance=full"],
    "crops": [*CASES["fixed"], *CASES["crops"]],
    "several tasks": [*CASES["fixed"], *CASES["several tasks"]],
    "clipped": [*CASES["fixed"], "optim.clip=0.1"],
    "matched": [*CASES["fixed"], *CASES["matched"]],
    "outputs matched": [*CASES["fixed"], *CASES["outputs matched"]],
    "adversarial view": [*CASES["fixed"], *CASES["adversarial view"]],
    "linearity": [*CASES["fixed"], *CASES["linearity"]],
}


def trained(overrides: list[str], batch_size: int, steps: int) -> dict[str, NDArray[np.float64]]:
    """Terms and gradients of each step, and the weights that it ends with."""
    small = ["model.backbone={name: mlp, hidden: [12]}", "model.latent_dim=3"]
    optim = "optim={name: sgd, lr: 0.05, momentum: 0.9, schedule: constant}"
    chosen = load_recipe("digits", [*small, optim, *overrides]).recipe
    info = build_info(chosen)
    torch.manual_seed(0)
    model, objective = build_model(chosen, info).train(), build_objective(chosen, info).train()
    optimizer = build_optimizer(chosen, model.parameters(), objective.parameters())
    average = build_average(chosen, model, IMAGES)
    plan = build_plan(chosen, model, CPU)
    step = Step(model, objective, optimizer, plan, CPU, average)
    share = Share(batch_size, rank(), world_size())
    data = synthetic(info, IMAGES)
    split = (keep_labels(data, chosen.data.labelled, 0) if chosen.data.labelled else data).train
    if objective.rate is not None and objective.rate.examples:
        objective.rate.start(split.images[: objective.rate.examples] / 255)
    found: dict[str, NDArray[np.float64]] = {}
    number = 0
    while number < steps:
        for batch in batches(
            split, order=torch.arange(IMAGES), batch_size=batch_size, device=CPU,
            augment=plan.augment, key=(0, number), train=True, drop_last=True, share=share,
        ):  # fmt: skip
            terms = step(batch._replace(images=batch.images.double()), number, share)
            found |= {f"{number} {name}": value.numpy() for name, value in terms.items()}
            for name, each in [*model.named_parameters(), *objective.named_parameters()]:
                if number == 0 and each.grad is not None:
                    found[f"gradient {name}"] = each.grad.numpy().copy()
            number += 1
            if number == steps:
                break
    kept = {"model": model, "objective": objective, "average": average and average.model}
    for where, module in kept.items():
        if module is not None:
            state = module.state_dict()
            found |= {f"{where} {name}": each.double().numpy() for name, each in state.items()}
    return found


def measured() -> dict[str, NDArray[np.float64]]:
    """An evaluation of 360 images, cut into more blocks than there are processes."""
    passes.block_size = lambda shape: 16
    rate.CELLS = 50 * 360
    loaded = load("digits-2d")
    opened = split_for(loaded, "test", None, ())
    found = measure_loaded(loaded, opened, draws=2, processes=all_processes())
    assert found.rates is not None
    (score,) = found.scores
    values = [*found.posterior, found.rates, *score.per_example(), score.confusion()]
    return {str(number): value.numpy() for number, value in enumerate(values) if value is not None}


def main(what: str, folder: Path) -> None:
    if world_size() > 1:
        join()
    found = measured() if what == "measured" else trainings(what)
    np.savez(folder / f"{what}-{world_size()}-{rank()}.npz", **found)


def trainings(what: str) -> dict[str, NDArray[np.float64]]:
    torch.set_default_dtype(torch.float64)
    found = {}
    if what == "steps":
        for name, overrides in CASES.items():
            for size in (24, 25):
                one = trained(overrides, size, 3)
                found |= {f"{name}, {size}: {key}": value for key, value in one.items()}
    elif what in ("whole", "parts"):
        parts = 1 if what == "whole" else 2
        for name, overrides in SEPARABLE.items():
            one = trained([*overrides, f"train.accumulate={parts}"], 24, 3)
            found |= {f"{name}: {key}": value for key, value in one.items()}
    else:
        found = trained(["train.average={share: 0.2}", *CASES["matched"]], 24, 30)
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
