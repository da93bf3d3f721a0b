"""What is behind a frozen backbone: features in place of images, and the rest of the model."""

import dataclasses
from contextlib import closing

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.progress import tell
from paradise_cli.core.resources import cache_folder
from paradise_cli.data import (
    DataInfo,
    FolderSplit,
    MemorySplit,
    Split,
    UnreadableImage,
    file_stamp,
    not_all_read,
)
from paradise_cli.inference.batches import stream_results
from paradise_cli.inference.feature_store import Add, FeatureStore, image_key, store_name
from paradise_cli.inference.feature_views import ITSELF, Viewed, Views
from paradise_cli.inference.image_sources import ImageSource, of_split
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.frozen import Frozen

_VERSION = 1  # of what is stored: raise it where decoding or the computation changes
_AT_ONCE = 64  # images


def behind_backbone(model: StochasticEncoder, info: DataInfo) -> tuple[StochasticEncoder, DataInfo]:
    """The part of a model behind its frozen backbone, and how data of its features look.

    Both as they are where the backbone is not frozen.
    """
    if not isinstance(model.backbone, Frozen):
        return model, info
    shape = (model.backbone.out_features, 1, 1)
    return model.behind_backbone(), dataclasses.replace(info, shape=shape, pictures=False)


def featured(
    split: Split, model: StochasticEncoder, info: DataInfo, views: Views = ITSELF
) -> Split:
    """The split with features float32 [N, F, 1, 1] for images, mapped from the user's cache.

    Those that are not there yet are computed, in blocks as encoding does it. In training each image
    has the features of one of its `views`. As it is where the model's backbone is not frozen.
    Raises ParadiseError naming the files that cannot be read.
    """
    backbone = model.backbone
    if not isinstance(backbone, Frozen):
        return split
    how = split.preprocessing if isinstance(split, FolderSplit) else info.preprocessing
    name = store_name(_VERSION, backbone.digest, how.to_json())
    store = FeatureStore(cache_folder("features", name), backbone.out_features)
    images = _keys(split)
    keys = [views.key(image, view) for view in range(views.count) for image in images]
    known = store.known()
    if not known.keys() >= set(keys):
        with store.adding() as (known, add):
            lacking = [place for place, key in enumerate(keys) if key not in known]
            # None where another process has just computed them.
            if lacking:
                source = views.drawn(of_split(split, info), images, lacking)
                unread = _compute(source, [keys[place] for place in lacking], backbone, add)
                if unread:
                    raise not_all_read(unread, len(split), info.label)
    rows = torch.tensor([known[key] for key in keys]).view(views.count, len(split))
    if views.count == 1:
        return MemorySplit(store.mapped(), split.labels, split.ids, rows[0])
    return Viewed(store.mapped(), split.labels, split.ids, rows)


def _keys(split: Split) -> list[str]:
    """A key for each image: by its file, or by its pixels where there is none."""
    if isinstance(split, FolderSplit):
        return [image_key(repr(file_stamp(split.file(row))).encode()) for row in range(len(split))]
    every = torch.arange(len(split))
    batches = split.fetch(every, _AT_ONCE, (), False)
    return [image_key(image.numpy().tobytes()) for batch in batches for image in batch.cpu()]


def _compute(
    source: ImageSource, keys: list[str], backbone: Frozen, add: Add
) -> list[UnreadableImage]:
    """Add the features of a source; gives what of it cannot be read, each file once."""

    def compute(images: Tensor) -> dict[str, Tensor]:
        return {"features": backbone(images)}

    unread: dict[str, UnreadableImage] = {}
    done = skipped = 0
    with closing(stream_results(source, backbone, compute, device=backbone.device)) as results:
        try:
            for block in results:
                add([keys[row] for row in block.rows], block.values["features"])
                unread |= {source.ids[row]: error for row, error in block.skipped}
                skipped += len(block.skipped)
                done += len(block.rows) + len(block.skipped)
                tell("features", done, len(keys))
        except ParadiseError:
            # That nothing could be read is no more than what is told of some.
            if skipped < len(keys):
                raise
    return list(unread.values())
