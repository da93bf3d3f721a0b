"""Robust training against independent few-line implementations: one step in float64."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, mse_loss

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.modes import eval_mode, running_statistics_kept
from paradise_cli.core.randomness import image_keys, keyed_normal, keyed_uniform
from paradise_cli.data import Batch, batches, synthetic
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.step import Step

CPU = torch.device("cpu")
EPS = 8 / 255
B = 6

Net = Callable[[Tensor], Tensor]


def noise(batch: Batch, view: int, normal: bool = False) -> Tensor:
    """What the start of view `view` draws at step 0 of seed 0: uniform in (-1, 1), or normal."""
    keys = image_keys(batch.index, "view", view, 0, 0)
    if normal:
        return keyed_normal(keys, batch.images.shape[1:], 1).double()
    return 2 * keyed_uniform(keys, batch.images.shape[1:], 1).double() - 1


def slope(values: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(values, x)[0]


def madry(net: Net, model: nn.Module, x: Tensor, y: Tensor, batch: Batch) -> Tensor:
    """Ten steps of 2/255 from a uniform start (Madry et al. 2018), crafted in eval mode."""
    adv = (x + EPS * noise(batch, 0)).clamp(0, 1)
    with eval_mode(model):
        for _ in range(10):
            adv = adv.detach().requires_grad_()
            adv = adv + 2 / 255 * slope(cross_entropy(net(adv), y), adv).sign()
            adv = (x + (adv - x).clamp(-EPS, EPS)).clamp(0, 1)
    return cross_entropy(net(adv.detach()), y)


def n_fgsm(net: Net, model: nn.Module, x: Tensor, y: Tensor, batch: Batch) -> Tensor:
    """Noise of radius 2 eps, one step of eps, no projection (de Jorge et al. 2022)."""
    start = (x + 2 * EPS * noise(batch, 0)).clamp(0, 1).requires_grad_()
    with running_statistics_kept(model):
        adv = (start + EPS * slope(cross_entropy(net(start), y), start).sign()).clamp(0, 1)
    return cross_entropy(net(adv.detach()), y)


def trades(net: Net, model: nn.Module, x: Tensor, y: Tensor, batch: Batch) -> Tensor:
    """CE(x) + 6 KL(p(x) || p(x')), ten steps of .007 on the KL in eval mode (Zhang et al. 2019)."""

    def kl(first: Tensor, second: Tensor) -> Tensor:
        p = log_softmax(first, 1)
        return (p.exp() * (p - log_softmax(second, 1))).sum(1).mean()

    adv = (x + 0.001 * noise(batch, 1, normal=True)).clamp(0, 1)
    with eval_mode(model):
        clean = net(x).detach()
        for _ in range(10):
            adv = adv.detach().requires_grad_()
            adv = adv + 0.007 * slope(kl(clean, net(adv)), adv).sign()
            adv = (x + (adv - x).clamp(-0.031, 0.031)).clamp(0, 1)
    first, second = net(torch.cat([x, adv.detach()])).chunk(2)
    return cross_entropy(first, y) + 6 * kl(first, second)


def alp(net: Net, model: nn.Module, x: Tensor, y: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy on both, half a squared difference of logits (Kannan et al. 2018)."""
    adv = (x + EPS * noise(batch, 1)).clamp(0, 1).requires_grad_()
    with eval_mode(model):
        adv = adv + EPS * slope(cross_entropy(net(adv), y), adv).sign()
        adv = (x + (adv - x).clamp(-EPS, EPS)).clamp(0, 1)
    logits = net(torch.cat([x, adv.detach()]))
    return cross_entropy(logits, y.repeat(2)) + 0.5 * mse_loss(*logits.chunk(2))


def llr(net: Net, model: nn.Module, x: Tensor, y: Tensor, batch: Batch) -> Tensor:
    """CE + 4 |l(x') - l(x) - (x' - x) dl(x)| + 3 |(x' - x) dl(x)| (Qin et al. 2019)."""

    def losses(images: Tensor) -> Tensor:
        return cross_entropy(net(images), y, reduction="none")

    x = x.clone().requires_grad_()
    adv = (x + EPS * noise(batch, 1)).detach().clamp(0, 1)
    with eval_mode(model):
        before = losses(x)
        tangent = slope(before.sum(), x)
        for _ in range(2):
            adv = adv.detach().requires_grad_()
            rise = ((adv - x.detach()) * tangent).flatten(1).sum(1)
            violation = (losses(adv) - before.detach() - rise).abs().sum()
            adv = adv + EPS / 2 * slope(violation, adv).sign()
            adv = (x + (adv - x).clamp(-EPS, EPS)).detach().clamp(0, 1)
    both = torch.cat([x, adv])
    first, second = cross_entropy(net(both), y.repeat(2), reduction="none").chunk(2)
    gradient = torch.autograd.grad(first.sum(), both, create_graph=True)[0][: len(x)]
    rise = ((adv - x) * gradient).flatten(1).sum(1)
    return first.mean() + 4 * (second - first - rise).abs().mean() + 3 * rise.abs().mean()


CLEAN = "{name: cross_entropy}, head: {name: linear}"
FIRST = f"objective.tasks=[{{distortion: {CLEAN}, views: [0]}}]"
RIVALS: dict[str, tuple[Any, list[str]]] = {
    "ADV": (madry, [f"views=[{{name: adversarial, eps: {EPS}, steps: 10, step: {2 / 255}}}]"]),
    "N-FGSM": (
        n_fgsm,
        [
            f"views=[{{name: adversarial, eps: {EPS}, step: {EPS}, start_size: {2 * EPS},"
            " project: false, batch_norm: batch}]"
        ],
    ),
    "TRADES": (
        trades,
        [
            "views=[image, {name: adversarial, eps: 0.031, loss: outputs, steps: 10, step: 0.007,"
            " start: gaussian, start_size: 0.001}]",
            FIRST,
            "objective.matching={of: outputs, distance: kl, gamma: 6}",
        ],
    ),
    "ALP": (
        alp,
        [
            f"views=[image, {{name: adversarial, eps: {EPS}}}]",
            "objective.matching={of: outputs, distance: squared, gamma: 0.5}",
        ],
    ),
    "LLR": (
        llr,
        [
            f"views=[image, {{name: adversarial, eps: {EPS}, loss: linearity, steps: 2,"
            f" step: {EPS / 2}}}]",
            FIRST,
            "objective.linearity={gamma: 4, slope: 3}",
        ],
    ),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_a_recipe_is_the_rival_that_it_names(rival: str) -> None:
    reference, overrides = RIVALS[rival]
    plain = ["model.stochastic=false", "objective.alpha=0", "train.precision=fp32"]
    small = "model.backbone={name: preact_resnet, depth: 8}"
    chosen = load_recipe("digits", [*plain, small, *overrides]).recipe
    info = build_info(chosen)
    model = build_model(chosen, info).double().train()
    objective = build_objective(chosen, info)
    optimizer = build_optimizer(chosen, model.parameters())
    step = Step(model, objective, optimizer, build_plan(chosen, model, CPU), CPU)
    (batch,) = batches(synthetic(info, B).train, order=torch.arange(B), batch_size=B, device=CPU)
    batch = batch._replace(images=batch.images.double())
    twin = copy.deepcopy(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}

    views = step.views(batch, 0)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), f"crafting changed {name}"
    loss, _ = objective(model, views, batch.labels, torch.zeros(len(views) * B, model.latent_dim))
    loss.backward()

    def net(images: Tensor) -> Tensor:
        (head,) = twin.heads.values()
        logits: Tensor = head(twin.encode(images).mu)
        return logits

    expected = reference(net, twin, batch.images, batch.labels[:, 0], batch)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-8)
    for found, right in zip(model.parameters(), twin.parameters(), strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, right.grad, rtol=0, atol=1e-8)
