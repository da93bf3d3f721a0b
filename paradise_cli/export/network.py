"""What is exported: one function from pixels to posterior and classes, and its parity with ours."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from paradise_cli.core.randomness import generator
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.models.encoder import StochasticEncoder

INPUT = "images"
BATCHES = (1, 7, 64)
"""Sizes of the batches on which an exported file is compared with the model."""
_COARSE = 4  # pixels a side of the images that vary slowly

Answers: TypeAlias = Sequence[Tensor]
"""What an exported network gives for a batch, in the order of its names."""
Runner: TypeAlias = Callable[[Tensor], Answers]
"""Images [B, C, H, W] to the answers of an exported file, read back."""


class ExportedNetwork(nn.Module):
    """Images [B, C, H, W] in [0, 1] to mean and log_variance [B, K], and the log-probabilities
    [B, classes] of each classification head at the mean; normalisation is part of it.

    The log-variance of a deterministic encoder is -inf, as `encode` gives it.
    """

    def __init__(self, model: StochasticEncoder, heads: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.heads = tuple(heads)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what it gives, in order."""
        if len(self.heads) == 1:
            return ("mean", "log_variance", "log_probabilities")
        return ("mean", "log_variance", *(f"log_probabilities_{head}" for head in self.heads))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mu, sigma = self.model.encode(images).marginals()
        decoded = self.model.decode(mu)
        return (mu, 2 * sigma.log(), *(decoded[head].log_softmax(1) for head in self.heads))


def network_of(loaded: LoadedModel) -> ExportedNetwork:
    """What is exported of a model, on the CPU and in eval mode."""
    heads = [name for name, head in loaded.model.heads.items() if head.kind == "logits"]
    # A copy: what the caller holds stays on its device.
    return ExportedNetwork(copy.deepcopy(loaded.model).cpu(), heads).eval()


def about(loaded: LoadedModel, network: ExportedNetwork) -> str:
    """What a program must know that runs the file: its metadata, as a JSON document."""
    classes = loaded.classes() if network.heads else {}
    found: dict[str, Any] = {
        "recipe": loaded.recipe.name,
        "trained_on": loaded.info.label,
        "input": f"{INPUT}, float32 [batch, C, H, W] in [0, 1]; normalisation is inside",
        "preprocessing": loaded.info.preprocessing.to_json(),
        "resizing": "short side to `resize` pixels, antialiased by `filter`, as Pillow does it to"
        " bytes; then a centre crop to `crop`",
        "classes": {head: list(names) for head, names in classes.items()},
        "provenance": loaded.provenance,
    }
    return json.dumps(found, sort_keys=True)


def trial_images(shape: Sequence[int], batch: int) -> Tensor:
    """Images [batch, C, H, W] between noise and slow shades, the same ones always."""
    draw = generator("export", batch)
    channels, *size = shape
    noise = torch.rand(batch, channels, *size, generator=draw)
    coarse = torch.rand(batch, channels, _COARSE, _COARSE, generator=draw)
    share = torch.linspace(0, 1, batch)[:, None, None, None]
    return share * noise + (1 - share) * interpolate(coarse, size, mode="bilinear")


def largest_differences(
    network: ExportedNetwork, run: Runner, shape: Sequence[int]
) -> dict[str, float]:
    """By name, how far the file's answers are from the network's, at most, over all batches.

    Of answers above 1 as a share of them: a latent of 400 is rounded by 3e-5 in fp32.
    """
    found = dict.fromkeys(network.names, 0.0)
    for batch in BATCHES:
        images = trial_images(shape, batch)
        with torch.no_grad():
            wanted = network(images)
        for name, ours, theirs in zip(network.names, wanted, run(images), strict=True):
            # Equal infinities, as of sigma = 0, are no distance apart.
            apart = (ours - theirs).abs() / ours.abs().clamp(min=1)
            apart = torch.where(ours == theirs, 0.0, apart)
            # A NaN is as far away as can be, and a maximum may pass over it.
            found[name] = max(found[name], float(apart.nan_to_num(nan=torch.inf).max()))
    return found
