"""Operations without a gradient: values stay, and gradients are those of the smooth stand-ins."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks.engine.smoothing import SHARPNESS, Smoothing
from paradise_cli.attacks.engine.surrogate import Smoothed

X = torch.tensor([[0.05, 0.2, 0.31, 0.45, 0.62, 0.97]])
EDGES = torch.tensor([0.25, 0.5])
TABLE = torch.tensor([0.0, 1.0, 3.0, 6.0])

Function = Callable[[Tensor], Tensor]


def slope(t: float) -> Function:
    """Of the sigmoid that stands in for x > t."""

    def at(x: Tensor) -> Tensor:
        lean = torch.sigmoid(SHARPNESS * (x - t))
        return SHARPNESS * lean * (1 - lean)

    return at


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 2 * x


def in_place(x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    total += x > 0.3
    return total


def counted(x: Tensor) -> Tensor:
    levels = (x > 0.3).int()
    return (levels + (x > 0.6).int()).float()


def overwritten(x: Tensor) -> Tensor:
    mask = (x > 0.3).int()
    mask.zero_()
    return mask * x


def two_largest(x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter(1, x.topk(2, 1).indices, 1.0)


ONE = torch.ones_like(X)
LEVEL = (4 * X).long()
CASES: dict[str, tuple[Function, Function]] = {
    "larger": (lambda x: (x > 0.3).float(), slope(0.3)),
    "smaller": (lambda x: 1.0 * x.lt(0.3), lambda x: -slope(0.3)(x)),
    "from the other side": (lambda x: (0.3 < x) * 2.0, lambda x: 2 * slope(0.3)(x)),
    "not": (lambda x: (~(x > 0.3)).to(x.dtype), lambda x: -slope(0.3)(x)),
    # A product: each side's slope times the other side's value, which is 0 or 1.
    "and": (
        lambda x: ((x > 0.3) & (x < 0.6)).float(),
        lambda x: slope(0.3)(x) * (x < 0.6) - slope(0.6)(x) * (x > 0.3),
    ),
    "or": (
        lambda x: ((x < 0.3) | (x > 0.6)).float(),
        lambda x: -slope(0.3)(x) * ~(x > 0.6) + slope(0.6)(x) * ~(x < 0.3),
    ),
    "where": (lambda x: torch.where(x > 0.3, 2.0, 5.0), lambda x: -3 * slope(0.3)(x)),
    "where, as a method": (
        lambda x: x.where(x > 0.3, torch.zeros_like(x)),
        lambda x: (x > 0.3) + x * slope(0.3)(x),
    ),
    "masked fill": (
        lambda x: x.masked_fill(x > 0.3, 0.0),
        lambda x: (~(x > 0.3)).float() - x * slope(0.3)(x),
    ),
    "round": (lambda x: (4 * x).round(), lambda x: 4 * ONE),
    "cast and back": (lambda x: (4 * x).long().float(), lambda x: 4 * ONE),
    "bytes": (lambda x: (100 * x).to(torch.uint8) * 0.25, lambda x: 25 * ONE),
    "sum of booleans": (counted, lambda x: slope(0.3)(x) + slope(0.6)(x)),
    "added in place": (in_place, slope(0.3)),
    "bucketize": (
        lambda x: torch.bucketize(x, EDGES).float(),
        lambda x: slope(0.25)(x) + slope(0.5)(x),
    ),
    # The slope of 0, 1, 3, 6 by central differences, 1.5 and 2.5, and half as much at the ends.
    "table": (
        lambda x: TABLE[(4 * x).long()],
        lambda x: 4 * torch.tensor([0.5, 1.5, 2.5, 1.5])[LEVEL],
    ),
    "detach": (lambda x: x.detach() * x, lambda x: 2 * x),
    "no_grad": (without_gradient, lambda x: 2 * ONE),
    # Between the second and the third largest lies 0.535.
    "largest": (two_largest, slope(0.535)),
    # A shadow must not outlive what it was the shadow of.
    "overwritten": (overwritten, lambda x: 0 * x),
}


@pytest.mark.parametrize("name", CASES)
def test_values_stay_and_gradients_are_those_of_the_stand_in(name: str) -> None:
    function, expected = CASES[name]
    x = X.clone().requires_grad_(True)
    with Smoothing():
        found = function(x)
    assert torch.equal(found, function(X))
    (gradient,) = torch.autograd.grad(found.sum(), [x])
    torch.testing.assert_close(gradient, expected(X).to(gradient.dtype), rtol=1e-4, atol=1e-6)


def test_a_function_that_the_mode_cannot_follow_keeps_its_own_gradient() -> None:
    class Net(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if (images > 0.5).float().requires_grad:
                raise RuntimeError("comparisons have no gradient")
            return 3 * images.flatten(1)

    x = torch.rand(2, 1, 2, 2).requires_grad_(True)
    found = Smoothed(Net())(x)
    (gradient,) = torch.autograd.grad(found.sum(), [x])
    assert torch.equal(gradient, torch.full_like(x, 3.0))


def test_what_leaves_pytorch_is_cut_off_as_it_was() -> None:
    def through_numpy(images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().numpy().copy()).flatten(1) + 0 * images.flatten(1)

    x = torch.rand(2, 1, 2, 2).requires_grad_(True)
    assert torch.equal(Smoothed(through_numpy)(x), through_numpy(x))
