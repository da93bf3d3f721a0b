"""What a loaded model makes of any number of rows: always in blocks of one shape, in fp32."""

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.machine import full_fp32, whole_batch
from paradise_cli.core.progress import tell
from paradise_cli.core.registry import did_you_mean
from paradise_cli.inference.batches import block_size
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.recipe.tasks import named_tasks
from paradise_cli.reproduction.latent_walks import Map


def encoder_of(loaded: LoadedModel) -> Map:
    """Pixels [B, C, H, W] in [0, 1] to the means of z [B, K]."""
    return _in_blocks(loaded, lambda images: loaded.model.encode(images).mu)


def decoder_of(loaded: LoadedModel, name: str | None = None) -> Map:
    """z [B, K] to pixels [B, C, H, W] in [0, 1], by the decoder of that name, else by the first.

    Raises UsageError for another name, ParadiseError for a model without a decoder.
    """
    decode, names = loaded.decoder(), loaded.decoders()
    if name is not None and name not in names:
        raise UsageError(f"--head {name}: no decoder of that name{did_you_mean(name, names)}; "
                         f"there are: {', '.join(names)}")  # fmt: skip
    chosen = name or names[0]
    return _in_blocks(loaded, lambda z: decode(z)[chosen])


def namer_of(loaded: LoadedModel, target: str) -> Map | None:
    """z [B, K] to class numbers [B] of this target; None where no head of the model tells them."""
    first = loaded.info.targets[0].name
    tasks = {
        name: task.target or first
        for name, task in named_tasks(loaded.recipe).items()
        if loaded.model.heads[name].kind == "logits"
    }
    head = next((name for name, wanted in tasks.items() if wanted == target), None)
    if head is None:
        return None
    return _in_blocks(loaded, lambda z: loaded.model.decode(z)[head].argmax(1))


def _in_blocks(loaded: LoadedModel, fn: Map) -> Map:
    """`fn` on the model's device, asked about as many rows at a time as encoding takes."""
    size = block_size(loaded.info.shape)

    def asked(rows: Tensor) -> Tensor:
        found = []
        with torch.no_grad(), full_fp32(loaded.device):
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                block = whole_batch(part, size).to(loaded.device)
                found.append(fn(block)[: len(part)].cpu())
                tell("images through the model", min(first + size, len(rows)), len(rows))
        return torch.cat(found)

    return asked
