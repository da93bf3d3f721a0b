"""Data sets, their splits, and the batches that a training sees."""

from paradise_cli.data import (  # noqa: F401  (each registers its data sets)
    cifar,
    digits,
    faces,
    folders,
    instances,
    mnist,
    random_sources,
    shard_sets,
)
from paradise_cli.data.augment import AUGMENTATIONS
from paradise_cli.data.base import (
    DATASETS,
    DEFAULT_SPLIT,
    SPLITS,
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
    check_root,
    check_split,
    dataset,
    info_of,
    on_device,
)
from paradise_cli.data.class_names import ClassMap, match_classes, match_logits, numbers_of
from paradise_cli.data.copies import distorted
from paradise_cli.data.folders import class_folders_of, open_folder
from paradise_cli.data.images import UnreadableImage, decode, header
from paradise_cli.data.listing import image_ids, list_images, matching
from paradise_cli.data.partition import hold_out, keep_labels
from paradise_cli.data.random_images import synthetic
from paradise_cli.data.shards import SHARD, ImageFile, ids_and_shards, packed_images
from paradise_cli.data.split_checks import check_contents
from paradise_cli.data.streaming import FolderSplit, file_stamp, not_all_read, stream

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "DEFAULT_SPLIT",
    "SHARD",
    "SPLITS",
    "Augmentation",
    "Batch",
    "ClassMap",
    "DataBundle",
    "DataInfo",
    "FolderSplit",
    "ImageFile",
    "Key",
    "MemorySplit",
    "Preprocessing",
    "Split",
    "Target",
    "UnreadableImage",
    "batches",
    "check_contents",
    "check_root",
    "check_split",
    "class_folders_of",
    "dataset",
    "decode",
    "distorted",
    "file_stamp",
    "header",
    "hold_out",
    "ids_and_shards",
    "image_ids",
    "info_of",
    "keep_labels",
    "list_images",
    "match_classes",
    "match_logits",
    "matching",
    "not_all_read",
    "numbers_of",
    "on_device",
    "open_folder",
    "packed_images",
    "stream",
    "synthetic",
]
