"""What a checkpoint must say and hold to go on from: anyone may have edited it."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, InstanceOf, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from paradise_cli.core.checked import Count, Strict, first_fault
from paradise_cli.core.errors import ParadiseError
from paradise_cli.models.weights import first_names, mismatches, not_finite

_OPTIMIZER = "optimizer"
_NEVER_NEGATIVE = ("exp_avg_sq", "step")  # in an optimiser's state; the first may be infinite
_Finite = Annotated[float, Field(allow_inf_nan=False)]
# Names of classes come from names of folders, which need not be Unicode: pydantic refuses those.
_Name = InstanceOf[str]


class _Best(Strict):
    score: Annotated[list[float], Field(min_length=1)]
    step: Count


class _Sums(Strict):
    step: Count
    seconds: Annotated[_Finite, Field(ge=0, lt=1e10)]  # 300 years
    terms: list[str]


class _State(_Sums):
    best: dict[Literal["plain", "averaged"], _Best]


class _OlderState(_Sums):
    """As versions wrote it that knew plain weights alone."""

    best_score: float | None
    best_step: Count


class _Images(Strict):
    images: Count
    sha256: str
    pixels: str | None = None


class _Data(_Images):
    shape: list[Count]
    classes: dict[_Name, list[_Name]]
    validation: _Images | None = None
    test: _Images | None = None


class _Metadata(Strict):
    state: dict[str, Any]
    recipe: str | None = None
    # Older versions kept none of these.
    data: _Data | None = None
    settings: dict[str, Any] | None = None
    tensors: Count | None = None


def check_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    """Raise ParadiseError for metadata that are not those of a checkpoint of this name."""
    try:
        state = _Metadata.model_validate(metadata).state
        kind = _State if "best" in state else _OlderState
        found = kind.model_validate(state)
    except ValidationError as error:
        raise _edited(path, first_fault(error)) from error
    if path.stem != f"step-{found.step:09d}":
        raise _edited(path, f"it says that it is of step {found.step}")


def check_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
) -> None:
    """Raise ParadiseError for tensors that are not those of these modules and this optimiser.

    They are compared by name, shape and type; their numbers are such as a training may reach.
    """
    terms = len(metadata["state"]["terms"])
    own = module_tensors(modules)
    own["totals"] = torch.zeros(terms, dtype=torch.float64)
    own["first_bad"] = torch.zeros(terms, dtype=torch.int64)
    # What had no gradient yet has no state, and what has some has all of it.
    begun = {_parameter(name) for name in tensors}
    state = _outlined_state(optimizer)
    own |= {name: each for name, each in state.items() if _parameter(name) in begun}
    if wrong := mismatches(own, tensors, lambda one, other: one.dtype == other.dtype):
        raise _edited(path, f"not the tensors of this training: {wrong}")
    squares = [name for name in tensors if _parameter(name) and name.endswith(_NEVER_NEGATIVE)]
    if wrong := not_finite({name: each for name, each in tensors.items() if name not in squares}):
        raise _edited(path, f"NaN or infinity in {wrong}")
    # Of their square root a step would make NaN, and torch complex numbers.
    if wrong := first_names([n for n in squares if not bool((tensors[n] >= 0).all())]):
        raise _edited(path, f"numbers below 0 in {wrong}")
    # Of a parameter that lost all of its state the names above say nothing.
    if metadata.get("tensors") not in (None, len(tensors)):
        raise _edited(path, f"it holds {len(tensors)} tensors instead of {metadata['tensors']}")


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights and buffers of all modules, each with the name of its module before it."""
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """State by parameter number; the parameter groups come from the recipe and the schedule."""
    return {
        f"{_OPTIMIZER}.{number}.{name}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def _parameter(name: str) -> str | None:
    """The parameter, by number, of whose state a tensor is a part; None for other tensors."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == _OPTIMIZER else None


def _outlined_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimiser keeps after a step, where every parameter has a gradient."""
    # A step on the meta device takes no memory and no time, and asks no list of optimisers.
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = [
        # The kernel of CPUs has no twin there, and keeps the same.
        group | {"params": [_outline(each) for each in group["params"]], "fused": False}
        for group in optimizer.param_groups
    ]
    twin.step()
    return optimizer_tensors(twin)


def _outline(parameter: Tensor) -> nn.Parameter:
    outline = nn.Parameter(torch.empty_like(parameter, device="meta"))
    outline.grad = torch.empty_like(outline)
    return outline


def _edited(path: Path, why: str) -> ParadiseError:
    return ParadiseError(f"{path} is damaged or was edited: {why}")
