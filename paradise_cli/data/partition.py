"""Smaller splits made from larger ones: a validation part, a few kept labels."""

import dataclasses

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import permutation
from paradise_cli.data.base import DataBundle


def stratified(strata: Tensor, n: int, *key: int | str) -> Tensor:
    """n sorted rows drawn at random, every stratum in proportion to its size; strata int64 [N]."""
    shuffled = permutation(len(strata), *key)
    # A stable sort by stratum keeps the random order within each.
    grouped = shuffled[torch.argsort(strata[shuffled], stable=True)]
    counts = torch.unique_consecutive(strata[grouped], return_counts=True)[1]
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    place = torch.arange(len(strata), dtype=torch.float64) - first
    # Each row's quantile within its stratum: the n smallest hold the same share of every stratum,
    # and n rows exactly, where rounding a share of each would give some other number.
    quantile = (place + 0.5) / torch.repeat_interleave(counts, counts)
    return grouped[torch.argsort(quantile, stable=True)[:n]].sort().values


def others(rows: Tensor, size: int) -> Tensor:
    """The rows below `size` that are not in `rows`, int64 and sorted."""
    return torch.ones(size, dtype=torch.bool).index_fill_(0, rows, False).nonzero().flatten()


def _strata(labels: Tensor) -> Tensor:
    return labels[:, 0] if labels.shape[1] else torch.zeros(len(labels), dtype=torch.int64)


def hold_out(bundle: DataBundle, fraction: float, seed: int) -> DataBundle:
    """Move a fraction of the training images to a validation split, stratified by the first target.

    A bundle that has a validation split, and a fraction of 0, are left as they are. Raises
    ParadiseError for a fraction outside [0, 1) or one that leaves a part empty.
    """
    if not 0 <= fraction < 1:
        raise ParadiseError(f"validation fraction {fraction}: it must be at least 0 and below 1")
    if bundle.validation is not None or fraction == 0:
        return bundle
    size = len(bundle.train)
    n = round(fraction * size)
    if not 0 < n < size:
        raise ParadiseError(
            f"{bundle.info.label}: {fraction:g} of {size} training images leaves a part empty; add"
            " images, or train without validation (--set data.validation=0)"
        )
    # Another key than any of training: the part is the same whatever is drawn besides.
    held = stratified(_strata(bundle.train.labels), n, seed, "validation")
    kept = others(held, size)
    return dataclasses.replace(
        bundle,
        info=dataclasses.replace(bundle.info, train_size=len(kept)),
        train=bundle.train.select(kept),
        validation=bundle.train.select(held),
    )


def keep_labels(bundle: DataBundle, n: int, seed: int) -> DataBundle:
    """Hide all training labels but those of n labelled images, stratified by the first target.

    Raises ParadiseError where fewer than n training images are labelled.
    """
    labels = bundle.train.labels
    labelled = (labels != -1).any(1).nonzero().flatten()
    if not 0 < n <= len(labelled):
        raise ParadiseError(
            f"{bundle.info.label}: cannot keep {n} labels, {len(labelled)} of {len(labels)}"
            f" training images are labelled; allowed: 1 to {len(labelled)}"
        )
    # Validation and test keep all labels: they measure, and teach nothing.
    kept = labelled[stratified(_strata(labels)[labelled], n, seed, "labelled")]
    hidden = torch.full_like(labels, -1).index_copy_(0, kept, labels[kept])
    return dataclasses.replace(bundle, train=bundle.train.relabel(hidden))
