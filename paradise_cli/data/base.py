"""What a data set is: its description, its splits, and the batches a training sees."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, UsageError, printable
from paradise_cli.core.randomness import image_keys
from paradise_cli.core.registry import Registry, did_you_mean
from paradise_cli.core.shares import Share
from paradise_cli.core.threads import one_thread_each
from paradise_cli.data.split_checks import check_contents

SPLITS = ("train", "validation", "test")
"""The names of splits, everywhere."""
DEFAULT_SPLIT = "test"
"""On which models are judged, where nothing else is asked for."""

LARGEST = 2**13
"""Pixels that a side of a model's images may have: a batch of larger ones fits no memory."""

Filter: TypeAlias = Literal["bilinear", "bicubic"]
"""How resized pixels are mixed of their neighbours."""
Key: TypeAlias = tuple[int | str, ...]
Augmentation: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`(images uint8 [B, C, H, W], keys int64 [B]) -> images`; each image's key decides for it."""


@dataclass(frozen=True)
class Target:
    """One column of labels and the names of its classes."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Preprocessing:
    """How any image file becomes a model's pixels; saved with the weights.

    In order: grey (ITU-601) or RGB; centre crop to a square of `pre_crop` pixels where the image is
    at least that large; short side resized to `resize` (antialiased, by `filter`); centre crop to
    `crop` = (H, W).
    """

    # A step of which this version knows nothing must not be left out in silence.
    __pydantic_config__ = ConfigDict(extra="forbid")

    channels: int
    resize: int | None
    crop: tuple[int, int]
    pre_crop: int | None = None
    filter: Filter = "bilinear"

    def __post_init__(self) -> None:
        # Read from weights files as well, where nothing else has checked them.
        sizes = [size for size in (*self.crop, self.resize, self.pre_crop) if size is not None]
        allowed = len(self.crop) == 2 and all(1 <= size <= LARGEST for size in sizes)
        if self.channels not in (1, 3) or not allowed:
            shown = " x ".join(map(str, (self.channels, *self.crop)))
            raise ParadiseError(
                f"images of {shown}: there must be 1 or 3 channels, and every size be 1 to"
                f" {LARGEST:,}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what comes out."""
        return (self.channels, *self.crop)

    def to_json(self) -> dict[str, Any]:
        """A JSON object, part of `DataInfo.to_json`."""
        return dataclasses.asdict(self) | {"crop": list(self.crop)}


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set without reading its pixels; saved with the weights.

    `pictures` is false of values that are no pixels, as those of a random source.
    `own_validation` says whether the data bring a validation split, which no model asks for later:
    it is not saved.
    """

    label: str
    shape: tuple[int, int, int]
    targets: tuple[Target, ...]
    train_size: int
    preprocessing: Preprocessing
    own_validation: bool = dataclasses.field(default=False, compare=False)
    pictures: bool = True

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "label": self.label,
            "shape": list(self.shape),
            "targets": [{"name": t.name, "classes": list(t.classes)} for t in self.targets],
            "train_size": self.train_size,
            "preprocessing": self.preprocessing.to_json(),
            "pictures": self.pictures,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "DataInfo":
        """The inverse of `to_json`; raises ParadiseError for anything else."""
        try:
            found = TypeAdapter(cls).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = printable(".".join(map(str, first["loc"])))
            raise ParadiseError(f"not a description of data: {where}: {first['msg']}") from error
        # A network of images alone says nothing of their size, and a file may promise any.
        if found.shape != found.preprocessing.shape:
            raise ParadiseError(
                f"not a description of data: images of shape {found.shape} cannot come from"
                f" {found.preprocessing}"
            )
        if not all(target.classes for target in found.targets):
            raise ParadiseError("not a description of data: targets: one has no classes")
        return found


class Batch(NamedTuple):
    """Images float32 [B, C, H, W], labels int64 [B, T] (-1 = unlabelled), rows of the split [B].

    Pixels are in [0, 1].
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one calls


class Split(Protocol):
    """Images that can be fetched in any order; `labels` int64 [N, T] stays on the CPU."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def ids(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def fetch(self, order: Tensor, batch_size: int, key: Key, train: bool) -> Iterator[Tensor]:
        """Batches [B, C, H, W] in `order` (int64, CPU); training may draw crops, by `key`.

        uint8 pixels, or float32 values of data that are no pictures.
        """
        ...

    def select(self, rows: Tensor) -> "Split":
        """The split made of these rows, int64 [M] on the CPU."""
        ...

    def relabel(self, labels: Tensor) -> "Split":
        """The same images under other labels, int64 [N, T]."""
        ...

    def to(self, device: torch.device) -> "Split":
        """The split on `device` where it fits as a whole, else itself."""
        ...


@dataclass(frozen=True)
class MemorySplit:
    """A split whose images [M, C, H, W] are in memory or memory-mapped; `rows` picks N of the M."""

    images: Tensor
    labels: Tensor
    ids: Sequence[str]
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, order: Tensor, batch_size: int, key: Key, train: bool) -> Iterator[Tensor]:
        """See `Split.fetch`; the order travels to the images' device once."""
        rows = (order if self.rows is None else self.rows[order]).to(self.images.device)
        for first in range(0, len(rows), batch_size):
            yield self.images.index_select(0, rows[first : first + batch_size])

    def select(self, rows: Tensor) -> "MemorySplit":
        """See `Split.select`; the images are shared, not copied."""
        base = rows if self.rows is None else self.rows[rows]
        ids = [self.ids[row] for row in rows.tolist()]
        return MemorySplit(self.images, self.labels[rows], ids, base)

    def relabel(self, labels: Tensor) -> "MemorySplit":
        """See `Split.relabel`."""
        return dataclasses.replace(self, labels=labels)

    def to(self, device: torch.device) -> "MemorySplit":
        """See `Split.to`; on CUDA a split may take half of the memory that is free."""
        if device == self.images.device:
            return self
        size = len(self) * self.images[0].nbytes
        # The other half is for weights, activations and the allocator's loss.
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        # Only the rows that are used travel: a selection may be a small part of what is mapped.
        images = self.images if self.rows is None else self.images.index_select(0, self.rows)
        return MemorySplit(images.to(device), self.labels, self.ids)


@dataclass(frozen=True)
class DataBundle:
    """A data set: its description and its splits; raises ParadiseError where the two disagree.

    `notes` say what a user should know of it before it is used, such as files that were left out.
    """

    info: DataInfo
    train: Split
    validation: Split | None = None
    test: Split | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, split in self.splits().items():
            check_contents(split, self.info, f"{self.info.label}, {name} split")

    def splits(self) -> dict[str, Split]:
        """The splits that are there, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}


def check_split(split: str) -> None:
    """Raise UsageError for what is not the name of a split."""
    if split not in SPLITS:
        raise UsageError(
            f"no split '{split}'{did_you_mean(split, list(SPLITS))}; known: {', '.join(SPLITS)}"
        )


DATASETS: Registry[DataBundle] = Registry("data set")
_DESCRIPTIONS: dict[str, Callable[..., DataInfo]] = {}
_ROOTLESS: set[str] = set()


def dataset(
    describe: Callable[..., DataInfo], *, reads_root: bool = True
) -> Callable[[Callable[..., DataBundle]], Callable[..., DataBundle]]:
    """Register a factory `(root, *, <hyper>) -> DataBundle` under its name.

    `describe(root, **hyper) -> DataInfo` gets every hyper-parameter of the factory and reads no
    pixels. Without `reads_root` a folder is refused, which would have no effect.
    """

    def register(factory: Callable[..., DataBundle]) -> Callable[..., DataBundle]:
        DATASETS.register(factory)
        _DESCRIPTIONS[factory.__name__] = describe
        if not reads_root:
            _ROOTLESS.add(factory.__name__)
        return factory

    return register


def check_root(name: str, root: Path | None) -> None:
    """Raise UsageError for a folder that is not there, or that the data set would not look at."""
    _refuse_idle_root(name, root)
    # For all data sets here: each would say in its own way what it misses in a folder that is not.
    if root is not None and not root.exists():
        raise UsageError(f"{name}: no such folder: {root}; set data.root to one")


def _refuse_idle_root(name: str, root: Path | None) -> None:
    if root is not None and name in _ROOTLESS:
        raise UsageError(f"{name} reads no folder: leave data.root, {root}, out")


def info_of(name: str, root: Path | None = None, **hyper: Any) -> DataInfo:
    """The description of a data set before any pixel is read, even where its files are missing."""
    _refuse_idle_root(name, root)
    # `describe` has no defaults of its own: they live in the factory's signature alone.
    defaults = {key: default for key, (_, default) in DATASETS.hyper_parameters(name).items()}
    return _DESCRIPTIONS[name](root, **(defaults | hyper))


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small CPU tensor to a device without making the host wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Only a copy from pinned memory is asynchronous; from pageable memory the host waits.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def batches(
    split: Split,
    *,
    order: Tensor,
    batch_size: int,
    device: torch.device,
    augment: Sequence[Augmentation] = (),
    key: Key = (),
    train: bool = False,
    drop_last: bool = False,
    start: int = 0,
    share: Share | None = None,
) -> Iterator[Batch]:
    """The batches of one pass over `order` (int64 [M], CPU), from batch number `start` on.

    What is drawn for an image is a function of (*key, row) alone: a pass may begin anywhere, and a
    `share` of whole batches be fetched by itself. In-memory splits never wait for the device.
    """
    stop = len(order) - len(order) % batch_size if drop_last else len(order)
    order = order[start * batch_size : stop]
    if share is not None:
        order = order.view(-1, share.total)[:, share.rows].flatten()
        batch_size = share.size
    # Order and labels travel once a pass: a copy for each batch would make the host wait.
    index = on_device(order, device)
    labels = on_device(split.labels, device)
    fetched = split.fetch(order, batch_size, key, train)
    for k, images in enumerate(fetched):
        rows = index[k * batch_size : (k + 1) * batch_size]
        images = on_device(images, device)
        # By one core: threads of a team would wait, spinning, for those that decode to make room.
        with one_thread_each():
            for number, augmentation in enumerate(augment):
                images = augmentation(images, image_keys(rows, *key, "augment", number))
            # Bytes until here: a quarter of the traffic, and augmentations leave them bytes.
            if images.dtype == torch.uint8:
                images = images.to(torch.float32).div_(255)
        yield Batch(images, labels.index_select(0, rows), rows)
