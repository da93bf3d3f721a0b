"""What the loop costs around the network, what bf16 gains, and what the rate costs."""

from collections.abc import Callable, Sequence

import torch
from timing import finish, machine, median, options, pairs, ratio, report
from torch import nn
from torch.nn.functional import cross_entropy

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.machine import choose_device, fast_bf16
from paradise_cli.data import synthetic
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.loop import Fit, Reporter

STANDARD = ["model.stochastic=false", "objective.alpha=0"]


def fitting(
    steps: int, device: torch.device, overrides: Sequence[str] = ()
) -> Callable[[], object]:
    """`fit` on CIFAR-shaped images for so many steps, model and data made beforehand."""
    recipe = load_recipe("cifar10_rn20_paradise", ["train.epochs=1", *overrides]).recipe
    info = build_info(recipe)
    model, objective = (
        build_model(recipe, info).to(device),
        build_objective(recipe, info).to(device),
    )
    train = synthetic(info, steps * recipe.train.batch_size).train.to(device)
    plan, optimizer = build_plan(recipe, model, device), build_optimizer(recipe, model.parameters())

    def work() -> None:
        Fit(model, objective, optimizer, plan, device, Reporter()).run(train)

    return work


class Deterministic(nn.Module):
    """The same network as `standard`, as a plain user would write it."""

    def __init__(self, overrides: Sequence[str]) -> None:
        super().__init__()
        recipe = load_recipe("cifar10_rn20_paradise", overrides).recipe
        model = build_model(recipe, build_info(recipe))
        self.layers = nn.Sequential(model.backbone, model.mu, model.heads["cross_entropy"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def bare(steps: int, device: torch.device, *, like_fit: bool) -> Callable[[], object]:
    """A plain loop on tensors that are staged, augmented and on the device already."""
    recipe = load_recipe("cifar10_rn20_paradise", STANDARD).recipe
    model = Deterministic(STANDARD).to(device).train()
    plan = build_plan(recipe, model, device)
    layout = torch.channels_last if like_fit and plan.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    images = torch.rand(128, 3, 32, 32, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (128,), device=device)
    optimizer = build_optimizer(recipe, model.parameters())
    bf16 = like_fit and plan.precision == "bf16"

    def work() -> None:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return work


if __name__ == "__main__":
    chosen = options(__doc__, pairs=5, steps=8, device="auto")
    device = choose_device(chosen.device)
    machine()
    timed = pairs(
        bare(chosen.steps, device, like_fit=True),
        fitting(chosen.steps, device, STANDARD),
        chosen.pairs,
    )
    print(f"ResNet-20, B=128: {chosen.steps * 128 / median(timed, 1):.0f} images/s in fit")
    report("fit's speed, of a bare loop's", ratio(timed), 0.93, at_least=True)
    timed = pairs(
        fitting(chosen.steps, device), fitting(chosen.steps, device, STANDARD), chosen.pairs
    )
    report("step time, PARADISE / standard", ratio(timed), 1.05, at_least=False)
    timed = pairs(
        bare(chosen.steps, device, like_fit=False),
        fitting(chosen.steps, device, STANDARD),
        chosen.pairs,
    )
    if fast_bf16(device):
        report("precision auto, times the fp32 contiguous loop", ratio(timed), 2.0, at_least=True)
    else:
        print(
            f"no fast bf16 here: precision auto is fp32, {ratio(timed):.2f} times the contiguous"
            " loop's speed"
        )
    what = "The training loop beside a bare loop; ResNet-20, batches of 128, wall time"
    finish(chosen, what=what, data="random images of 32x32")
