"""From a run folder, a weights file or a zoo name to a model that can be used."""

import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import choose_device
from paradise_cli.core.randomness import normal_draws
from paradise_cli.core.ranges import MOST_DRAWS, seed_number, whole
from paradise_cli.core.storage import content_digest
from paradise_cli.core.units import counted
from paradise_cli.data import DataInfo, UnreadableImage
from paradise_cli.hub.cards import packaged_for
from paradise_cli.hub.push import Pushed
from paradise_cli.inference.answers import SCALE_TRIL, Encoding, Prediction, Reconstruction
from paradise_cli.inference.batches import BlockFunction, Results, stream_results
from paradise_cli.inference.find_model import find_model
from paradise_cli.inference.image_sources import Images, ImageSource, open_images
from paradise_cli.inference.pixels import pixel_decoder
from paradise_cli.inference.pushing import prepare_push
from paradise_cli.inference.trained_file import build_trained, read_trained
from paradise_cli.information.gaussian import FullGaussian
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import Recipe
from paradise_cli.recipe.tasks import named_tasks

_NOISE = 2**20  # normal numbers that are drawn at a time

Advance = Callable[[int], None]


@dataclass(frozen=True)
class LoadedModel:
    """A trained model in eval mode and fp32, with its recipe and the description of its data.

    `encode`, `predict` and `reconstruct` take images as `open_images` does (a folder, files, a
    pattern, an array or a data set) and warn of files that cannot be read, which `skipped` then
    lists. Their results are held in memory; the commands write any number of images to files.
    """

    model: StochasticEncoder
    recipe: Recipe
    info: DataInfo
    provenance: dict[str, Any]
    source: Path
    device: torch.device

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.info.shape))
        return (
            f"LoadedModel({self.source}: recipe '{self.recipe.name}', images {shape} to"
            f" {counted(self.model.latent_dim, 'dimension')}, {self.device})"
        )

    @property
    def digest(self) -> str:
        """Hex sha256 of its weights, with those of a frozen backbone."""
        backbone = getattr(self.model.backbone, "digest", None)
        return content_digest(self.model.state_dict(), {"backbone": backbone})

    @property
    def label(self) -> str:
        """Where it comes from and, where the file says so, which of a run's weights it holds."""
        which = self.provenance.get("weights")
        if which is None:  # of an older version, or somebody's own file
            return str(self.source)
        return f"{self.source} ({which} weights, step {self.provenance['step']:,})"

    def open(self, images: Images) -> ImageSource:
        """The images as this model reads them; errors as `open_images`."""
        return open_images(images, self.recipe, self.info)

    def check_samples(self, samples: int) -> None:
        """Raise UsageError for a number of draws that this model cannot give."""
        if whole(samples, "samples", 0, MOST_DRAWS) and not self.model.stochastic:
            raise UsageError(
                f"samples: {self.source} is deterministic, every draw is its mean; leave it out"
            )

    def stream(
        self,
        source: ImageSource,
        compute: BlockFunction,
        *,
        ahead: int | None = None,
        progress: Advance | None = None,
    ) -> Generator[Results, None, None]:
        """`compute` on blocks of images, in order and in bounded memory: see `stream_results`."""
        return stream_results(
            source, self.model, compute, device=self.device, ahead=ahead, progress=progress
        )

    def encode(self, images: Images, *, samples: int = 0, seed: int = 0) -> Encoding:
        """Posterior of each image and `samples` draws from it, a function of seed, row and draw.

        Raises UsageError for draws that cannot be, and errors as `open_images`.
        """
        self.check_samples(samples)
        seed = seed_number(seed)
        source = self.open(images)
        blocks = list(self.stream(source, self.posterior()))
        found = {name: joined(blocks, name) for name in blocks[0].values}
        rows = [row for block in blocks for row in block.rows]
        # By row of the source, not of the result: a file that becomes unreadable moves no noise.
        drawn = draw(found, rows, samples, seed) if samples else None
        ids, skipped = _ids(source, blocks)
        return Encoding(
            found["mean"], found["log_variance"], ids, source.labels[rows], drawn, skipped,
            source.class_names, found.get(SCALE_TRIL),
        )  # fmt: skip

    def predict(self, images: Images) -> Prediction:
        """Class probabilities of each image; raises ParadiseError without a classifier."""
        source = self.open(images)
        classes = self.classes()
        blocks = list(self.stream(source, self.classifier()))
        return Prediction({n: joined(blocks, n) for n in classes}, classes, *_ids(source, blocks))

    def reconstruct(self, images: Images) -> Reconstruction:
        """What the decoders make of each image; raises ParadiseError without a decoder."""
        source = self.open(images)
        blocks = list(self.stream(source, self.reconstructor()))
        pixels = {name: joined(blocks, name) for name in self.decoders()}
        return Reconstruction(joined(blocks, ""), pixels, *_ids(source, blocks))

    def push_to_hub(
        self,
        repo: str,
        *,
        card: str | Path | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> Pushed:
        """Publish the model as `org/repo` on the Hub, in one commit: as `paradise zoo push`.

        `card` is a YAML file, by default the run's `card.yaml`; `token` comes before the one that
        `hf auth login` left. Raises UsageError and ParadiseError as that command, and where the
        weights in memory are no longer those of the file, of which the card speaks.
        """
        tensors, _ = read_model(self.source)
        own = self.model.state_dict()
        if not all(torch.equal(own[n].cpu(), tensors[n].to(own[n].dtype)) for n in tensors):
            raise ParadiseError(
                f"the weights were changed since they were read from {self.source}, and its card"
                " says nothing of them; load the model anew"
            )
        return prepare_push(self.source, repo, card).send(private=private, token=token)

    def posterior(self) -> BlockFunction:
        """Images to mean, log_variance and sigma of each latent by itself, each [B, latent_dim].

        Of full posteriors also their `scale_tril`.
        """

        def compute(images: Tensor) -> dict[str, Tensor]:
            posterior = self.model.encode(images)
            mu, sigma = posterior.marginals()
            # Sigma too: from a rounded log-variance the draws would differ in their last bits.
            found = {"mean": mu, "log_variance": 2 * sigma.log(), "sigma": sigma}
            if isinstance(posterior, FullGaussian):
                found[SCALE_TRIL] = posterior.factor
            return found

        return compute

    def features(self) -> BlockFunction:
        """Images to what the model's backbone gives, features [B, F]."""

        def compute(images: Tensor) -> dict[str, Tensor]:
            return {"features": self.model.features(images).float()}

        return compute

    def classifier(self) -> BlockFunction:
        """Images to probabilities [B, classes] by classification head, from the mean of z."""
        names = list(self.classes())

        def compute(images: Tensor) -> dict[str, Tensor]:
            decoded = self.model.decode(self.model.encode(images).mu)
            return {name: decoded[name].softmax(1) for name in names}

        return compute

    def decoder(self) -> BlockFunction:
        """z [B, latent_dim] to pixels [B, C, H, W] in [0, 1] by decoder.

        Raises ParadiseError for a model without one, or of values that are no picture.
        """
        return pixel_decoder(self.model, self.recipe, self.decoders(), self.source)

    def reconstructor(self) -> BlockFunction:
        """Images to pixels [B, C, H, W] in [0, 1] by decoder, and to themselves under ""."""
        decode = self.decoder()

        def compute(images: Tensor) -> dict[str, Tensor]:
            return {"": images, **decode(self.model.encode(images).mu)}

        return compute

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by classification head; raises ParadiseError where there is none."""
        names = [target.name for target in self.info.targets]
        found = {}
        for head, task in named_tasks(self.recipe).items():
            if self.model.heads[head].kind == "logits":
                column = names.index(task.target) if task.target else 0
                found[head] = self.info.targets[column].classes
        if not found:
            raise ParadiseError(
                f"{self.source} was trained without class labels and cannot predict; it can"
                f" {self._abilities()}. Packaged with classes: {', '.join(packaged_for('predict'))}"
            )
        return found

    def decoders(self) -> list[str]:
        """Names of the heads that give pixels; raises ParadiseError where there is none."""
        names = [name for name, head in self.model.heads.items() if head.kind == "pixels"]
        if not names:
            packaged = ", ".join(packaged_for("reconstruct"))
            raise ParadiseError(
                f"{self.source} has no decoder, only: {', '.join(self.model.heads)}; it can"
                f" {self._abilities()}. Packaged with a decoder: {packaged}"
            )
        return names

    def _abilities(self) -> str:
        """What can be asked of it, in words."""
        kinds = {head.kind for head in self.model.heads.values()}
        verbs = {"logits": "predict", "pixels": "reconstruct"}
        return " and ".join(["encode", *(verb for kind, verb in verbs.items() if kind in kinds)])


def load(path_or_name: str | Path | None = None, device: str = "cpu") -> LoadedModel:
    """The model of a run folder, a weights file or a zoo name; None is the packaged default.

    Raises ParadiseError for what is missing, damaged, unfinished or of another version.
    """
    path = find_model(path_or_name)
    found = read_trained(path)
    model = build_trained(found, path)
    # No weight has a gradient: what asks for one of the pixels does not pay for those too.
    model.eval().requires_grad_(False)
    where = choose_device(device)
    return LoadedModel(model.to(where), found.recipe, found.info, found.provenance, path, where)


def draw(
    posterior: Mapping[str, NDArray[np.float32]], rows: list[int], samples: int, seed: int
) -> NDArray[np.float32]:
    """Draws [N, samples, latent_dim] from what `LoadedModel.posterior` gives.

    The noise depends on the seed, the row and the draw alone.
    """
    mean, factor = posterior["mean"], posterior.get(SCALE_TRIL)
    drawn = np.empty((len(rows), samples, mean.shape[1]), np.float32)
    # Noise is made from integers of 8 bytes: a part of the rows at a time keeps them few.
    latents = mean.shape[1]
    size = max(1, _NOISE // (samples * latents * (1 if factor is None else latents)))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        keys = torch.tensor(rows[part])
        noise = normal_draws(keys, samples, mean.shape[1], seed, "encode").numpy()
        if factor is None:
            drawn[part] = mean[part, None] + posterior["sigma"][part, None] * noise
        else:
            # Not as matrices, whose products round by how many draws there are.
            drawn[part] = mean[part, None] + (factor[part, None] * noise[:, :, None]).sum(3)
    return drawn


def joined(blocks: list[Results], name: str) -> NDArray[Any]:
    """One of the results of all blocks, as one array."""
    return np.concatenate([block.values[name] for block in blocks])


def _ids(source: ImageSource, blocks: list[Results]) -> tuple[list[str], list[UnreadableImage]]:
    """Ids of the rows that could be read, and a warning for the others."""
    skipped = [error for block in blocks for _, error in block.skipped]
    if skipped:
        message = (
            f"{len(skipped)} of {counted(len(source.ids), 'image')} cannot be read and are left"
            f" out: {skipped[0]}"
        )
        warnings.warn(message, stacklevel=3)  # at the line that called `encode` and the like
    return [source.ids[row] for block in blocks for row in block.rows], skipped
