"""What tells one classifier from another: structure, weights, answers, code."""

import math
from collections.abc import Mapping

from torch import Tensor

from paradise_cli.attacks.engine.classifier import Behaviour, Function
from paradise_cli.attacks.engine.introspection import weights_digest
from paradise_cli.attacks.engine.own_code import code_digest, own_code

_SOME = 12  # images, and classes, whose clean logits tell classifiers apart
Known = list[float | int | bool | str | None]


def fingerprint(function: Function, behaviour: Behaviour, logits: Tensor, digits: int = 5) -> Known:
    """Structure and weights of the torch modules of a function, and its logits [N, classes] of
    clean images, with so many digits.

    They are left out for one that answers at random.
    """
    weights = weights_digest(function)
    if behaviour.random:
        return [behaviour.classes, True, weights]
    # Logits may be infinite, and shifted by a constant that no probability sees.
    finite = logits.double().nan_to_num(0.0, 0.0, 0.0)
    centred = finite - finite.mean(1, keepdim=True)
    scale = float(centred.square().mean().sqrt()) or 1.0
    some = [math.log(scale), *(centred[:_SOME, :_SOME] / scale).flatten().tolist()]
    # Not -0.0, which is another text than 0.0.
    return [behaviour.classes, False, weights, *(round(value, digits) + 0.0 for value in some)]


def code_of(function: Function, behaviour: Behaviour, before: Mapping[str, bytes]) -> Known | None:
    """What the user's code behind a function is and does; `before` is what `own_code` found of it
    some calls earlier.

    None where there is no such code and nothing unusual: there the fingerprint says everything.
    """
    digest = code_digest(before, own_code(function))
    # Two functions may give the same logits, and only one of them a gradient.
    shown: Known = [behaviour.gradient, behaviour.masks, behaviour.half]
    return None if digest is None and shown == ["flows", False, False] else [digest, *shown]
