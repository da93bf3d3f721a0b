"""`train.init`: start from a trained model, with new heads where its own do not fit."""

from collections.abc import Mapping

from torch import Tensor

from paradise_cli.build import head_classes
from paradise_cli.data import DataInfo
from paradise_cli.inference.find_model import find_model
from paradise_cli.inference.trained_file import read_trained
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.weights import fill
from paradise_cli.recipe.schema import Recipe

HEADS = "heads."


def start_from(model: StochasticEncoder, recipe: Recipe, info: DataInfo, path_or_name: str) -> str:
    """Fill a fresh model, made by `recipe` for data like `info`, with trained weights.

    The encoder must be of the same architecture. A head is taken where its weights fit and, of a
    classifier, where it tells the same classes apart in the same order; else it stays as it was
    drawn. Says in one sentence what was taken. Raises ParadiseError for weights of another
    architecture, and what `find_model` and `read_trained` raise.
    """
    path = find_model(path_or_name)
    found = read_trained(path)
    tensors, theirs = found.tensors, head_classes(found.recipe, found.info)
    ours = head_classes(recipe, info)
    # By class names, not by shape: logits of cat and dog are no start for apple and pear.
    own = model.state_dict()
    taken = [
        head
        for head in model.heads
        if ours.get(head) == theirs.get(head) and _fits(head, own, tensors)
    ]
    # What is not a head must fit as a whole, which `fill` sees to.
    kept = {n: tensor for n, tensor in tensors.items() if not n.startswith(HEADS)}
    for name, tensor in own.items():
        if name.startswith(HEADS):
            kept[name] = tensors[name] if name.split(".")[1] in taken else tensor
    fill(model, kept, path)
    fresh = [_fresh(head, ours, theirs) for head in model.heads if head not in taken]
    parts = [f"the encoder{''.join(f', head {head}' for head in taken)}"]
    return f"starting from {path}: takes {'; '.join(parts + fresh)}"


def _fits(head: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a head has the same weights, of the same shapes, in both."""
    # Compared as a whole: of a decoder half taken over nothing would be worth keeping.
    start = f"{HEADS}{head}."
    shapes = [
        {name: tensor.shape for name, tensor in each.items() if name.startswith(start)}
        for each in (own, tensors)
    ]
    return shapes[0] == shapes[1]


def _fresh(
    head: str, ours: Mapping[str, tuple[str, ...]], theirs: Mapping[str, tuple[str, ...]]
) -> str:
    """Why a head starts anew."""
    if head not in ours:
        return f"head {head} is new"
    there = f"{len(theirs[head])} other classes there" if head in theirs else "no such head there"
    return f"head {head} is new: {len(ours[head])} classes here, {there}"
