"""In which precision a training computes: none in which torch leaves gradients undefined."""

import torch
from torch import Tensor, nn

from paradise_cli.core.errors import UsageError
from paradise_cli.core.machine import choose_precision
from paradise_cli.core.modes import eval_mode
from paradise_cli.models import StochasticEncoder
from paradise_cli.recipe.schema import Recipe


def in_sound_precision(
    recipe: Recipe, model: StochasticEncoder, shape: tuple[int, ...], device: torch.device
) -> Recipe:
    """The recipe with the precision that `auto` means for this model on images of this shape.

    Raises UsageError where bf16 is asked for and torch gets gradients wrong in it (pitfalls.md).
    """
    precision = choose_precision(recipe.train.precision, device)
    if (device.type, precision) == ("cpu", "bf16") and (layer := _undefined(model, shape)):
        if recipe.train.precision == "bf16":
            raise UsageError(
                f"train.precision bf16: on CPUs torch leaves the gradient of backbone.{layer}"
                " undefined in bf16, as its input is smaller than its stride: use fp32 or auto,"
                " fewer strides, or larger images"
            )
        precision = "fp32"
    return recipe.with_train(precision=precision)


def _undefined(model: StochasticEncoder, shape: tuple[int, ...]) -> str | None:
    """A convolution some of whose weights see nothing but padding: torch does not write their
    gradient in bf16 on CPUs.
    """
    found = list[str]()

    def look(layer: nn.Conv2d, given: tuple[Tensor]) -> None:
        # In words it is none: torch refuses "same" where there are strides.
        if isinstance(layer.padding, str):
            return
        sides = zip(given[0].shape[2:], layer.stride, layer.padding, strict=True)
        if any(side < stride and padding for side, stride, padding in sides):
            found.append(names[layer])

    names = {
        layer: name
        for name, layer in model.backbone.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad and max(layer.stride) > 1
    }
    hooks = [layer.register_forward_pre_hook(look) for layer in names]
    with eval_mode(model), torch.no_grad():
        if hooks:
            model.backbone(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return found[0] if found else None
