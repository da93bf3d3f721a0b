"""Gradients for operations that have none: comparisons, roundings, casts, choices (method.md 5.5).

Within `Smoothing` every operation gives the value that it gives outside. Only the backward pass
differs: ReLUs are smooth, and what flattens or cuts the gradient lets it through (BPDA, Athalye et
al. 2018). Booleans and integers cannot carry a gradient, so each has a *shadow*: a float tensor of
the same values, with the gradient of a smooth stand-in.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SHARPNESS = 10.0
"""Of what stands in for a ReLU, log(1 + exp(10 x)) / 10, and for a comparison, the sigmoid."""
_SHADOW, _CHOICE = "_paradise_shadow", "_paradise_choice"

_RELUS = {functional.relu, torch.relu, Tensor.relu}
_CUTS = {Tensor.detach, torch.detach, Tensor.data.__get__}  # type: ignore[attr-defined]
_TO_NUMPY = {"numpy", "__array__", "tolist"}
_IN_PLACE = {"add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__itruediv__"}


class Smoothing(TorchFunctionMode):
    """The mode in which operations of PyTorch keep their values and pass gradients on."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func in _RELUS:
            return functional.softplus(args[0] if args else named["input"], beta=SHARPNESS)
        if func in _CUTS:
            return args[0]
        if name == "_set_grad_enabled":
            # `torch.no_grad` inside a classifier is one more way to cut its gradient off.
            return func(True)
        if name in _TO_NUMPY:
            return func(args[0].detach(), *args[1:], **named)
        soft_args = tuple(_softened(value) for value in args)
        soft_named = {key: _softened(value) for key, value in named.items()}
        if name in _IN_PLACE and args[0].is_floating_point():
            return func(*soft_args, **soft_named)
        if name.endswith("_") and isinstance(args[0], Tensor):
            _forget(args[0])  # it is about to change, and its shadow would not
        hard = func(*args, **named)
        if not isinstance(hard, Tensor):
            return _remember_choice(name, hard, args, named)
        soft = _soft_result(name, func, hard, (args, named), (soft_args, soft_named))
        if soft is None or soft.shape != hard.shape:
            return _remember_choice(name, hard, args, named)
        return _joined(hard, soft)


def _softened(value: Any) -> Any:
    """The shadow of a boolean or integer tensor that has one, also inside lists of tensors."""
    if isinstance(value, Tensor):
        return getattr(value, _SHADOW, value)
    if isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value):
        return type(value)(_softened(each) for each in value)
    return value


def _forget(value: Tensor) -> None:
    for name in (_SHADOW, _CHOICE):
        if hasattr(value, name):
            delattr(value, name)


def _joined(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `soft`."""
    if hard.is_floating_point():
        return soft + (hard - soft).detach()
    as_float = soft if soft.is_floating_point() else soft.float()
    setattr(hard, _SHADOW, as_float + (hard.to(as_float.dtype) - as_float).detach())
    return hard


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _soft_result(
    name: str, func: Callable[..., Any], hard: Tensor, given: Call, soft: Call
) -> Tensor | None:
    """What has the gradient that `hard` lacks; None where it lacks none, or none is known."""
    args, named = soft
    rule = _RULES.get(name)
    if rule is not None:
        return rule(hard, *args, **named)
    if func is torch.where or name == "where":
        # The method has its condition in second place.
        order = given[0] if func is torch.where else (given[0][1], given[0][0], *given[0][2:])
        return _where(*order) if len(order) == 3 else None
    if name == "masked_fill":
        return _where(given[0][1], given[0][2], given[0][0])
    if name == "__getitem__":
        return _looked_up(hard, *given[0])
    if _same(given, soft):
        return None
    try:
        # Arithmetic on the shadows: the same function, which now carries gradients.
        found = func(*args, **named)
    except (RuntimeError, TypeError, IndexError):
        return None
    return found if isinstance(found, Tensor) else None


def _same(given: Call, soft: Call) -> bool:
    pairs = zip((*given[0], *given[1].values()), (*soft[0], *soft[1].values()), strict=True)
    return all(one is other for one, other in pairs)


def _differentiable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad


def _larger(hard: Tensor, one: Any, other: Any, **_: Any) -> Tensor | None:
    if not (_differentiable(one) or _differentiable(other)):
        return None
    return torch.sigmoid(torch.as_tensor(SHARPNESS * (one - other)))


def _smaller(hard: Tensor, one: Any, other: Any, **_: Any) -> Tensor | None:
    return _larger(hard, other, one)


def _as_if_not_there(hard: Tensor, value: Any, *_: Any, **__: Any) -> Tensor | None:
    """For roundings and casts: the gradient of the value itself."""
    if not _differentiable(value):
        return None
    found: Tensor = value
    return found.to(hard.dtype) if hard.is_floating_point() else found


def _both(hard: Tensor, one: Any, other: Any, **_: Any) -> Tensor | None:
    if not (_differentiable(one) or _differentiable(other)):
        return None
    return torch.as_tensor(one * other)


def _either(hard: Tensor, one: Any, other: Any, **_: Any) -> Tensor | None:
    if not (_differentiable(one) or _differentiable(other)):
        return None
    return torch.as_tensor(one + other - one * other)


def _opposite(hard: Tensor, value: Any, **_: Any) -> Tensor | None:
    return torch.as_tensor(1 - value) if _differentiable(value) else None


def _bucket(hard: Tensor, values: Any, bounds: Any, **_: Any) -> Tensor | None:
    """How many bounds lie below: a sum of comparisons."""
    if not _differentiable(values):
        return None
    return torch.sigmoid(SHARPNESS * (values[..., None] - bounds)).sum(-1)


def _where(condition: Tensor, one: Any, other: Any) -> Tensor | None:
    """A choice between two values, whose gradient also says which way the choice leans."""
    lean = getattr(condition, _SHADOW, None)
    one, other = _softened(one), _softened(other)
    if lean is None:
        return None
    chosen = torch.where(condition, one, other)
    # A choice between a value and minus infinity leans infinitely; that leads nowhere.
    step = torch.as_tensor(one - other).detach().nan_to_num(0.0, 0.0, 0.0)
    return torch.as_tensor(chosen + (lean - lean.detach()) * step)


def _looked_up(hard: Tensor, table: Tensor, index: Any) -> Tensor | None:
    """An entry of a table of numbers, whose gradient is the slope of the table."""
    place = getattr(index, _SHADOW, None)
    if place is None or index.dtype == torch.bool or table.ndim != 1:
        return None
    last = len(table) - 1
    slope = (table[(index + 1).clamp(max=last)] - table[(index - 1).clamp(min=0)]) / 2
    return torch.as_tensor(hard + (place - place.detach()) * slope.detach())


def _remember_choice(name: str, hard: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Note on indices of the largest values what they were chosen from."""
    if name not in ("topk", "argmax") or not _differentiable(args[0]):
        return hard
    indices = hard if isinstance(hard, Tensor) else hard.indices
    given = [*args[1:], *named.values()]
    k = given[0] if name == "topk" and given else 1
    dim = named.get("dim", (args[2:] if name == "topk" else args[1:] or (-1,)) or (-1,))
    dim = dim[0] if isinstance(dim, tuple) else dim
    if dim is not None and args[0].shape[dim] > k:
        ranked = args[0].detach().topk(k + 1, dim).values
        between = (ranked.select(dim, k - 1) + ranked.select(dim, k)) / 2
        setattr(indices, _CHOICE, args[0] - between.unsqueeze(dim))
    return hard


def _marked(hard: Tensor, base: Tensor, dim: int, index: Tensor, value: Any) -> Tensor | None:
    """A mask of the largest values: whether a value is above the threshold between them and the
    rest.
    """
    above = getattr(index, _CHOICE, None)
    if above is None or above.shape != base.shape:
        return None
    lean = torch.sigmoid(SHARPNESS * above)
    step = (hard if isinstance(value, Tensor) else value) - base
    return hard + (lean - lean.detach()) * (step.detach() if isinstance(step, Tensor) else step)


def _hot(hard: Tensor, index: Tensor, *_: Any, **__: Any) -> Tensor | None:
    above = getattr(index, _CHOICE, None)
    if above is None or above.shape != hard.shape:
        return None
    return torch.sigmoid(SHARPNESS * above)


_RULES: dict[str, Callable[..., Tensor | None]] = {
    **dict.fromkeys(("gt", "ge", "greater", "greater_equal", "__gt__", "__ge__"), _larger),
    **dict.fromkeys(("lt", "le", "less", "less_equal", "__lt__", "__le__"), _smaller),
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix", "sign"), _as_if_not_there),
    **dict.fromkeys(("long", "int", "short", "byte", "char", "bool"), _as_if_not_there),
    **dict.fromkeys(("to", "type", "float", "double", "half", "bfloat16"), _as_if_not_there),
    **dict.fromkeys(("logical_and", "bitwise_and", "__and__", "__rand__"), _both),
    **dict.fromkeys(("logical_or", "bitwise_or", "__or__", "__ror__"), _either),
    **dict.fromkeys(("logical_not", "bitwise_not", "__invert__"), _opposite),
    "bucketize": _bucket,
    "scatter": _marked,
    "one_hot": _hot,
}
"""By the name of a function: its result and its softened arguments to what has the gradient."""
