"""An average of a model's weights over its last steps, which is better than the last weights."""

import copy
from functools import cached_property

import torch
from torch import Tensor

from paradise_cli.models import StochasticEncoder

WARM_UP = 10  # steps done for each step of the window, as long as it grows


class Average:
    """The exponential moving average of a model's weights over a window of steps.

    After t steps the window is t / 10, and at most `window`: the average moves by 1 / (that many)
    of the way to the weights. The first ten steps are copied, so that the random weights of the
    start have no part in it, and it is of use from the first epoch on (method.md 4.5). Statistics
    of batch normalisation are copied from the model, until `Step.settle` estimates them anew.
    `model` is the average itself, in eval mode.
    """

    # Not torch's AveragedModel: it keeps the number of steps in a tensor, and looks at its value in
    # every update, for which the host would wait.

    def __init__(self, model: StochasticEncoder, window: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.window = window
        self._source = model

    def weight(self, done: int) -> float:
        """Which part of the average the weights after `done` steps become, 1 at the beginning."""
        return 1 / max(1.0, min(done / WARM_UP, self.window))

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after `done` steps; a function of both alone, and nothing waits."""
        own, new = self._parameters
        torch._foreach_lerp_(own, new, weight=self.weight(done))
        own, new = self._buffers
        # Of an empty list torch would complain.
        if own:
            torch._foreach_copy_(own, new)

    # Once, when first used: to walk through all modules takes longer than to average.
    @cached_property
    def _parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        return list(self.model.parameters()), list(self._source.parameters())

    @cached_property
    def _buffers(self) -> tuple[list[Tensor], list[Tensor]]:
        return list(self.model.buffers()), list(self._source.buffers())
