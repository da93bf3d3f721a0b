"""What a step of each robust training costs, as a ratio to a step of standard training.

ResNet-20 on 128 random images of 32 x 32, with the views and objectives of the recipes
`cifar10_jpeg75_robust_*`; a step of the one and of the other in turn, in one run. On a busy machine
`--cpu 1` counts the processor's seconds instead of those of the clock, with one thread.
"""

import time
from collections.abc import Callable

import torch
from timing import finish, machine, options, pairs, ratio, report

from paradise_cli.build import (
    build_average,
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
)
from paradise_cli.core.machine import choose_device
from paradise_cli.data import batches, synthetic
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.step import Step

BOUNDS: dict[str, tuple[str, float | None]] = {
    "pm": ("PARADISE-PM, two corners", 2.05),
    "pm_adversarial": ("adversarial matching, one step", 3.3),
    "n_fgsm": ("N-FGSM", 2.1),
    "adv": ("ADV, ten steps", 10.0),
    "trades_1": ("TRADES, one step", None),
    "trades": ("TRADES, ten steps", None),
}
"""By method: what it is, and how often the time of a standard step it may take."""
IMAGES = 45_000  # of the training set whose length decides how far an average looks back


def stepping(method: str, device: torch.device) -> Callable[[], object]:
    """A function that takes one training step on a batch that is on the device already."""
    # CIFAR-10's shape is known without its files; those of a folder are looked at.
    recipe = load_recipe(f"cifar10_jpeg75_robust_{method}", ["data={name: cifar10}"]).recipe
    info = build_info(recipe)
    model = build_model(recipe, info).to(device).train()
    objective = build_objective(recipe, info).to(device).train()
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    average = build_average(recipe, model, IMAGES)
    step = Step(model, objective, optimizer, build_plan(recipe, model, device), device, average)
    size = recipe.train.batch_size
    split = synthetic(info, size).train.to(device)
    (batch,) = batches(split, order=torch.arange(size), batch_size=size, device=device)
    number = 0

    def work() -> None:
        nonlocal number
        step(batch, number)
        number += 1

    return work


if __name__ == "__main__":
    chosen = options(__doc__, pairs=15, device="auto", only="", cpu=0)
    device = choose_device(chosen.device)
    clock = time.perf_counter
    if chosen.cpu:
        torch.set_num_threads(1)
        clock = time.process_time
    machine()
    for method, (words, bound) in BOUNDS.items():
        if chosen.only in ("", method):
            standard = stepping("standard", device)
            timed = pairs(stepping(method, device), standard, chosen.pairs, clock)
            report(f"{words} / standard", ratio(timed), bound, at_least=False)
    kind = "processor time of one thread" if chosen.cpu else "wall time"
    what = (
        "A training step as a multiple of a standard one; ResNet-20, batches of 128,"
        f" {kind}, median of {chosen.pairs} pairs"
    )
    finish(chosen, what=what, data="random images of 32x32")
