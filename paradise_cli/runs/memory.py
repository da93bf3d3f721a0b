"""Whether a training can fit into memory: from shapes alone, before any of it is taken."""

import math

import torch
from torch import nn

from paradise_cli.build import build_info, build_model, build_objective, build_outline
from paradise_cli.core.errors import Refused, UsageError
from paradise_cli.core.machine import memory_of
from paradise_cli.data import DataInfo
from paradise_cli.recipe.schema import Recipe
from paradise_cli.training.step import batch_of

_MOST_TENSORS = 5_000  # of a network: a thousand layers have fewer
_COPIES = 2  # of every number that is learned: itself and its gradient
_LATENTS = 3  # of each image: mean, sigma and z


def check_memory(
    recipe: Recipe, info: DataInfo | None = None, device: torch.device | None = None
) -> None:
    """Raise UsageError for a recipe that needs more memory than there is on the device, and Refused
    for one whose components cannot be built.

    What is counted are the weights with their gradients, what q keeps, and a batch of images with
    its latents: a training needs more. Without `info` no data are looked at.
    """
    if info is None:
        # A data set of the recipe's own need not know what it is without its folder.
        if recipe.imports:
            return
        unseen = recipe.data.model_copy(update={"root": None})
        info = build_info(recipe.model_copy(update={"data": unseen}))
    device = device or torch.device("cpu")
    try:
        model = build_outline(build_model, recipe, info, _MOST_TENSORS)
        objective = build_outline(build_objective, recipe, info, _MOST_TENSORS)
    except Refused:
        raise
    # Other mistakes are told by whoever builds it, in the order in which one would mend them.
    except UsageError:
        return
    images = batch_of(info.train_size, recipe.train.batch_size)
    pixels = len(recipe.views) * math.prod(info.shape)
    parts = {
        "the weights (model)": _bytes(model),
        # Every latent of a batch meets every part of q, in float64.
        "q (objective.rate)": _bytes(objective) + 8 * images * _rows(objective),
        "a batch (train.batch_size, model.latent_dim, data)": (
            4 * images * (pixels + _LATENTS * recipe.model.latent_dim)
        ),
    }
    need, have = sum(parts.values()), memory_of(device)
    if need > have:
        largest = max(parts, key=parts.__getitem__)
        raise UsageError(
            f"recipe {recipe.name} needs at least {_gigabytes(need)} of memory and {device} has"
            f" {_gigabytes(have)}: lower what makes {largest} large, {_gigabytes(parts[largest])}"
        )


def _bytes(outline: nn.Module | None) -> int:
    # What an imported component needs is known to it alone.
    if outline is None:
        return 0
    learned = sum(each.numel() * each.element_size() for each in outline.parameters())
    kept = sum(each.numel() * each.element_size() for each in outline.buffers())
    return _COPIES * learned + kept


def _rows(outline: nn.Module | None) -> int:
    """How many parts q has, such as components."""
    if outline is None:
        return 0
    return max((len(each) for each in outline.state_dict().values() if each.ndim), default=0)


def _gigabytes(number: int) -> str:
    # Digits that nobody reads: of absurd sizes the order is all that matters.
    size = number / 10**9
    return f"{size:,.3g} GB" if size < 1e6 else f"{size:.0e} GB"
