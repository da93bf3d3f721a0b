"""From a run folder, a weights file or a zoo name to a model that can be used."""

import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.build import named_tasks
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import choose_device
from paradise_cli.core.randomness import normal_draws
from paradise_cli.core.ranges import MOST_DRAWS, seed_number, whole
from paradise_cli.core.storage import content_digest
from paradise_cli.core.units import counted
from paradise_cli.data import DataInfo, UnreadableImage
from paradise_cli.hub.cards import packaged_for
from paradise_cli.hub.push import Pushed
from paradise_cli.inference.batches import BlockFunction, Results, stream_results
from paradise_cli.inference.find_model import find_model
from paradise_cli.inference.image_sources import Images, ImageSource, open_images
from paradise_cli.inference.pixels import pixel_decoder
from paradise_cli.inference.pushing import prepare_push
from paradise_cli.inference.trained_file import build_trained, read_trained
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import Recipe

_NOISE = 2**20  # normal numbers that are drawn at a time

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Encoding:
    """Posteriors of N images: `mean` and `log_variance`, float32 [N, latent_dim].

    The log-variance of a deterministic encoder is -inf. `ids` say which image a row is, `labels`
    int64 [N, T] are -1 where unknown, `samples` are float32 [N, K, latent_dim] where asked for, and
    `skipped` are the files that could not be read. The first column of `labels` numbers
    `class_names`: the model's classes, and after them the class folders that it does not know.
    """

    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    ids: list[str]
    labels: NDArray[np.int64]
    samples: NDArray[np.float32] | None
    skipped: list[UnreadableImage]
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n, latent_dim = self.mean.shape
        drawn = "" if self.samples is None else f", {counted(self.samples.shape[1], 'draw')}"
        size = f"{counted(n, 'image')}, {counted(latent_dim, 'dimension')}"
        return f"Encoding({size}{drawn}{_skipped(self.skipped)})"


@dataclass(frozen=True)
class Prediction:
    """Probabilities float32 [N, classes] of each classification head, from the mean of z.

    `classes` are the names by head.
    """

    probabilities: dict[str, NDArray[np.float32]]
    classes: dict[str, tuple[str, ...]]
    ids: list[str]
    skipped: list[UnreadableImage]

    def __repr__(self) -> str:
        heads = ", ".join(
            f"{name}: {counted(len(each), 'class', 'classes')}"
            for name, each in self.classes.items()
        )
        return f"Prediction({counted(len(self.ids), 'image')}; {heads}{_skipped(self.skipped)})"

    def labels(self, head: str | None = None) -> list[str]:
        """The most probable class of each image, by the head of that name, else by the first."""
        name = next(iter(self.probabilities)) if head is None else head
        return [self.classes[name][i] for i in self.probabilities[name].argmax(1).tolist()]


@dataclass(frozen=True)
class Reconstruction:
    """Images and what each decoder makes of the mean of z, float32 [N, C, H, W] in [0, 1]."""

    originals: NDArray[np.float32]
    pixels: dict[str, NDArray[np.float32]]
    ids: list[str]
    skipped: list[UnreadableImage]

    def __repr__(self) -> str:
        decoders = ", ".join(self.pixels)
        images = counted(len(self.ids), "image")
        return f"Reconstruction({images} by {decoders}{_skipped(self.skipped)})"


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
        mean = joined(blocks, "mean")
        rows = [row for block in blocks for row in block.rows]
        # By row of the source, not of the result: a file that becomes unreadable moves no noise.
        drawn = draw(mean, joined(blocks, "sigma"), rows, samples, seed) if samples else None
        ids, skipped = _ids(source, blocks)
        return Encoding(
            mean, joined(blocks, "log_variance"), ids, source.labels[rows], drawn, skipped,
            source.class_names,
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
        """Images to mean, log_variance and sigma of each latent by itself, each [B, latent_dim]."""

        def compute(images: Tensor) -> dict[str, Tensor]:
            mu, sigma = self.model.encode(images).marginals()
            # Sigma too: from a rounded log-variance the draws would differ in their last bits.
            return {"mean": mu, "log_variance": 2 * sigma.log(), "sigma": sigma}

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
                f"{self.source} was trained without class labels and cannot predict; it can encode"
                f" and reconstruct. Packaged with classes: {', '.join(packaged_for('predict'))}"
            )
        return found

    def decoders(self) -> list[str]:
        """Names of the heads that give pixels; raises ParadiseError where there is none."""
        names = [name for name, head in self.model.heads.items() if head.kind == "pixels"]
        if not names:
            raise ParadiseError(
                f"{self.source} has no decoder, only: {', '.join(self.model.heads)}; it can encode"
                f" and predict. Packaged with a decoder: {', '.join(packaged_for('reconstruct'))}"
            )
        return names


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
    mean: NDArray[np.float32], sigma: NDArray[np.float32], rows: list[int], samples: int, seed: int
) -> NDArray[np.float32]:
    """Draws [N, samples, latent_dim]; the noise depends on the seed, the row and the draw alone."""
    drawn = np.empty((len(rows), samples, mean.shape[1]), np.float32)
    # Noise is made from integers of 8 bytes: a part of the rows at a time keeps them few.
    size = max(1, _NOISE // (samples * mean.shape[1]))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        keys = torch.tensor(rows[part])
        noise = normal_draws(keys, samples, mean.shape[1], seed, "encode").numpy()
        drawn[part] = mean[part, None] + sigma[part, None] * noise
    return drawn


def _skipped(skipped: list[UnreadableImage]) -> str:
    return f"; {counted(len(skipped), 'file')} could not be read" if skipped else ""


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
