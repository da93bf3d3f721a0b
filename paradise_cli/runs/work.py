"""What a training asks of a machine, whichever it is: passes of the network and its operations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.data import batches, synthetic
from paradise_cli.inference.features import behind_backbone
from paradise_cli.recipe.schema import Recipe
from paradise_cli.training.step import Step

_COUNTED = 8  # images in the batch on which is counted


@dataclass(frozen=True)
class Work:
    """For each image of a training step: images put forward and back through the backbone, and
    floating-point operations (a multiplication and an addition are two).

    One back is one gradient, of the pixels or of the weights.
    """

    forward: float
    back: float
    operations: float


def work_of(recipe: Recipe) -> Work:
    """Counted in one step on random images, so that it is what the step does and not what its
    recipe promises. Errors as those of the training.
    """
    info, cpu = build_info(recipe), torch.device("cpu")
    model, info = behind_backbone(build_model(recipe, info), info)
    objective = build_objective(recipe, info)
    # A compiled step would call no hooks, and its operations are not seen. Parts add up to all.
    plan = replace(build_plan(recipe, model, cpu), compile=False, accumulate=1)
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    split = synthetic(info, _COUNTED).train
    (batch,) = batches(split, order=torch.arange(_COUNTED), batch_size=_COUNTED, device=cpu)
    rows = {"forward": 0, "back": 0}

    def forward(module: object, given: object, features: Tensor) -> None:
        rows["forward"] += len(features)

    # The one before the backbone's own pass: the one after needs images that want a gradient.
    def back(module: object, gradients: Sequence[Tensor]) -> None:
        rows["back"] += len(gradients[0])

    model.train()
    model.backbone.register_forward_hook(forward)
    model.backbone.register_full_backward_pre_hook(back)
    # As plain products: for the kernel of CPUs torch has no formula, and counts nothing.
    with sdpa_kernel(SDPBackend.MATH), _Operations() as counted:
        Step(model, objective, optimizer, plan, cpu)(batch, 0)
    forwards, backs = rows["forward"] / _COUNTED, rows["back"] / _COUNTED
    return Work(forwards, backs, counted.total / _COUNTED)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums torch's own formulas over whatever runs.

    torch's FlopCounterMode also tells modules apart, by hooks that no gradient of the pixels by
    `autograd.grad` gets past (torch 2.14.1).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=found)
        return found
