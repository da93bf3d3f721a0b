"""Optimisers take the steps of their papers, whichever kernel computes them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from paradise_cli.training.optim import OPTIMIZERS

Array = NDArray[np.float64]
LR, DECAY, EPS = 0.1, 0.01, 1e-8


def nesterov(weights: Array, gradients: Sequence[Array]) -> Array:
    velocity = np.zeros_like(weights)
    for number, gradient in enumerate(gradients):
        decayed = gradient + DECAY * weights
        # As torch has it: the first step begins with the whole gradient.
        velocity = decayed if number == 0 else 0.9 * velocity + decayed
        weights = weights - LR * (decayed + 0.9 * velocity)
    return weights


def adam(weights: Array, gradients: Sequence[Array], decoupled: bool = False) -> Array:
    """Kingma and Ba 2015, algorithm 1; decoupled: Loshchilov and Hutter 2019, algorithm 2."""
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        decayed = gradient if decoupled else gradient + DECAY * weights
        first = 0.9 * first + 0.1 * decayed
        second = 0.999 * second + 0.001 * decayed**2
        scale = np.sqrt(second) / math.sqrt(1 - 0.999**step) + EPS
        shrunk = weights * (1 - LR * DECAY) if decoupled else weights
        weights = shrunk - LR / (1 - 0.9**step) * first / scale
    return weights


STEPS: dict[str, Callable[[Array, Sequence[Array]], Array]] = {
    "sgd": nesterov,
    "adam": adam,
    "adamw": lambda weights, gradients: adam(weights, gradients, decoupled=True),
}


def test_every_optimiser_has_its_formula() -> None:
    assert STEPS.keys() == set(OPTIMIZERS)


@pytest.mark.parametrize("name", STEPS)
def test_a_parameter_that_is_not_dense_takes_the_same_step(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    wide = torch.randn(8, 4, generator=draw, dtype=torch.float64)
    # Of its gradient autograd makes a dense one.
    weights = nn.Parameter(wide[:, :2])
    start, slope = weights.detach().numpy().copy(), torch.randn(8, 2, generator=draw)
    (weights * slope).sum().backward()
    OPTIMIZERS[name]([weights], lr=LR, weight_decay=DECAY).step()
    expected = STEPS[name](start, [slope.double().numpy()])
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_steps_are_those_of_the_formula(name: str, grouped: bool, layout: Any) -> None:
    draw = np.random.default_rng(0)
    start = draw.normal(size=(4, 3, 2, 5))
    gradients = list(draw.normal(size=(4, *start.shape)))
    weights = nn.Parameter(torch.from_numpy(start.copy()).to(memory_format=layout))
    # One that gets no gradient must stay as it is.
    idle = nn.Parameter(torch.ones(3, dtype=torch.float64))
    given: Any = [{"params": [weights, idle]}] if grouped else iter([weights, idle])
    optimizer = OPTIMIZERS[name](given, lr=LR, weight_decay=DECAY)
    for gradient in gradients:
        optimizer.zero_grad()
        (weights * torch.from_numpy(gradient)).sum().backward()
        optimizer.step()
    expected = STEPS[name](start, gradients)
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-12, atol=1e-14)
    assert bool((idle == 1).all())


def test_without_momentum_it_is_plain_gradient_descent() -> None:
    """Also where `nesterov` is on, as it is by default."""
    start, gradients = np.ones(3), [np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.0, -1.0])]
    weights = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = OPTIMIZERS["sgd"]([weights], lr=LR, momentum=0.0)
    for gradient in gradients:
        weights.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = start - LR * np.sum(gradients, 0)
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-12)
