"""Images that are most like others, and near-duplicates, by their posteriors."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.inference.loading import Advance, LoadedModel
from paradise_cli.inference.posterior_index import PosteriorIndex, encoded_beside
from paradise_cli.information.neighbours import groups, near_pairs, nearest


@dataclass(frozen=True)
class Neighbours:
    """The images nearest to a query, each with its distance, nearest first."""

    query: str
    images: list[tuple[str, float]]


@dataclass(frozen=True)
class Duplicates:
    """Pairs of images that overlap, each with its overlap, and the groups that they form."""

    pairs: list[tuple[str, str, float]]
    groups: list[list[str]]


def neighbours(
    model: LoadedModel,
    index: PosteriorIndex,
    queries: Sequence[Path],
    distance: str,
    count: int,
    progress: Advance,
) -> list[Neighbours]:
    """The `count` images of an index that are nearest to each query, itself left out.

    `progress` is called with the number of queries done. Raises UsageError for an index of another
    model, UnreadableImage for a query that is no image.
    """
    wanted = encoded_beside(index, model, queries)
    # One more than asked for, since a query may be in the index.
    rows, distances = nearest(wanted, index.posterior, count + 1, distance, progress=progress)
    found = []
    for query, near, apart in zip(queries, rows.tolist(), distances.tolist(), strict=True):
        images = [(index.ids[row], nats) for row, nats in zip(near, apart, strict=True)]
        others = [each for each in images if not _same(Path(each[0]), query)]
        found.append(Neighbours(str(query), others[:count]))
    return found


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def duplicates(
    index: PosteriorIndex,
    nats: float,
    progress: Advance,
    confirm: Callable[[Tensor], Tensor] | None = None,
) -> Duplicates:
    """All pairs of an index within so many nats of `overlap`, and those alone that `confirm` keeps.

    It takes rows [P, 2] and gives bool [P]. `progress` counts the rows of the index.
    """
    rows, distances = near_pairs(index.posterior, nats, progress=progress)
    if confirm is not None:
        kept = confirm(rows)
        rows, distances = rows[kept], distances[kept]
    shares = (-distances).exp().tolist()
    pairs = [
        (index.ids[first], index.ids[second], share)
        for (first, second), share in zip(rows.tolist(), shares, strict=True)
    ]
    return Duplicates(pairs, [[index.ids[row] for row in group] for group in groups(rows)])


def require_widths(index: PosteriorIndex, remedy: str = "") -> None:
    """Raise UsageError where posteriors have no width, and so no overlap.

    `remedy` is what else than another index helps, ending in " or ".
    """
    if not index.stochastic:
        raise UsageError(
            f"{index.path}: its model is deterministic, and points do not overlap; take"
            f" {remedy}an index of a stochastic model"
        )
