"""What a loaded model answers of images, held in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paradise_cli.core.errors import UsageError
from paradise_cli.core.units import counted
from paradise_cli.data import UnreadableImage

SCALE_TRIL = "scale_tril"
"""The name of L in files of posteriors N(mean, L L^T), as torch's `MultivariateNormal` has it."""


@dataclass(frozen=True)
class Encoding:
    """Posteriors of N images: `mean` and `log_variance`, float32 [N, latent_dim].

    The log-variance of a deterministic encoder is -inf. Of full posteriors it is that of each
    latent by itself, and `scale_tril`, float32 [N, latent_dim, latent_dim], is L of N(mean, L L^T).
    `ids` say which image a row is, `labels` int64 [N, T] are -1 where unknown, `samples` are
    float32 [N, K, latent_dim] where asked for, and `skipped` are the files that could not be read.
    The first column of `labels` numbers `class_names`: the model's classes, and after them the
    class folders that it does not know; there are none for the labels of an archive.
    """

    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    ids: list[str]
    labels: NDArray[np.int64]
    samples: NDArray[np.float32] | None
    skipped: list[UnreadableImage]
    class_names: tuple[str, ...] = ()
    scale_tril: NDArray[np.float32] | None = None

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
        """The most probable class of each image, by the head of that name, else by the first.

        Raises UsageError for a name of none.
        """
        name = next(iter(self.probabilities)) if head is None else head
        if name not in self.probabilities:
            raise UsageError(
                f"no classification head '{name}'; those of this prediction: "
                + ", ".join(self.probabilities)
            )
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


def _skipped(skipped: list[UnreadableImage]) -> str:
    return f"; {counted(len(skipped), 'file')} could not be read" if skipped else ""
