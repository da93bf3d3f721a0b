"""Data sets, their splits, and the batches that a training sees."""

from paradise_cli.data import (  # noqa: F401  (each registers its data sets)
    cifar,
    digits,
    faces,
    folders,
    mnist,
    random_sources,
)
from paradise_cli.data.augment import AUGMENTATIONS
from paradise_cli.data.base import (
    DATASETS,
    Augmentation,
    Batch,
    DataBundle,
    DataInfo,
    Key,
    MemorySplit,
    Preprocessing,
    Split,
    Target,
    batches,
    dataset,
    info_of,
    on_device,
    synthetic,
)
from paradise_cli.data.images import UnreadableImage, decode, list_images
from paradise_cli.data.partition import hold_out, keep_labels
from paradise_cli.data.streaming import FolderSplit, decoding_progress, stream

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "Augmentation",
    "Batch",
    "DataBundle",
    "DataInfo",
    "FolderSplit",
    "Key",
    "MemorySplit",
    "Preprocessing",
    "Split",
    "Target",
    "UnreadableImage",
    "batches",
    "dataset",
    "decode",
    "decoding_progress",
    "hold_out",
    "info_of",
    "keep_labels",
    "list_images",
    "on_device",
    "stream",
    "synthetic",
]
