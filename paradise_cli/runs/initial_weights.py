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
NORMALISATION = ("mean", "std")


def start_from(model: StochasticEncoder, recipe: Recipe, info: DataInfo, path_or_name: str) -> str:
    """Fill a fresh model, made by `recipe` for data like `info`, with trained weights.

    The encoder must be of the same architecture. A head is taken where its weights fit and, of a
    classifier, where it tells the same classes apart in the same order; else it stays as it was
    drawn. Pixels are normalised as the recipe says. Says in one sentence what was taken. Raises
    ParadiseError for weights of another architecture, and what `find_model` and `read_trained`
    raise.
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
    normal = {name: tensor.clone() for name, tensor in own.items() if name in NORMALISATION}
    fill(model, kept, path)
    fresh = [_fresh(head, ours, theirs) for head in model.heads if head not in taken]
    parts = [f"the encoder{''.join(f', head {head}' for head in taken)}"]
    parts += fresh + _other_normalisation(normal, model.state_dict())
    # The recipe says how pixels are normalised, and what is saved says so after it.
    model.load_state_dict(normal, strict=False)
    return f"starting from {path}: takes {'; '.join(parts)}"


def _other_normalisation(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """What to say where weights were trained under another normalisation than the recipe's."""
    # Half precision is a way to store weights, and rounds.
    if all(tensor.allclose(theirs[name], rtol=1e-3) for name, tensor in own.items()):
        return []
    told = " and ".join(f"model.{name}={_numbers(theirs[name])}" for name in NORMALISATION)
    return [f"not its normalisation: pixels are normalised as this recipe says, there by {told}"]


def _numbers(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.5g}' for value in values.flatten().tolist())}]"


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
