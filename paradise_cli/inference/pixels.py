"""From latents to pixels: what a decoder gives becomes a picture by the distortion it learned."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.inference.batches import BlockFunction
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.base import is_frozen
from paradise_cli.objective.distortions import DISTORTIONS, LINKS
from paradise_cli.recipe.schema import Recipe
from paradise_cli.recipe.tasks import named_tasks


def pixel_decoder(
    model: StochasticEncoder, recipe: Recipe, names: Sequence[str], source: Path
) -> BlockFunction:
    """z [B, K] to pixels [B, C, H, W] in [0, 1] by these decoders; ParadiseError, which names the
    `source`, where one of them reproduces values that are no picture.
    """
    tasks = named_tasks(recipe)
    reproduce = {
        name: DISTORTIONS[task.distortion.name](**task.distortion.hyper).reproduce
        for name, task in tasks.items()
    }
    features = is_frozen(model.backbone)
    values = [name for name in names if features or reproduce[name] is LINKS["identity"]]
    if values:
        shown = ", ".join(values)
        raise ParadiseError(f"{source}: {shown} reproduces values, which are no picture")

    def compute(z: Tensor) -> dict[str, Tensor]:
        decoded = model.decode(z)
        return {name: reproduce[name](decoded[name]) for name in names}

    return compute
