"""Nearest neighbours among posteriors: exact, in float64, in bounded memory (method.md 3.7)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.information.distances import DISTANCES
from paradise_cli.information.gaussian import DiagonalGaussian

CELLS = 2**22  # latents of pairs that are compared at a time: 32 MiB in float64
ROWS = 2048  # posteriors of a block of near pairs
MOST_PAIRS = 1_000_000

_WASSERSTEIN = DISTANCES["wasserstein"]().per_example
_BHATTACHARYYA = DISTANCES["bhattacharyya"]().per_example


def wasserstein(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
    """The 2-Wasserstein distance, [B], in the unit of z (Dowson and Landau 1982)."""
    # Its square there is the mean over latents.
    root: Tensor = (a.mu.shape[1] * _WASSERSTEIN(a, b)).sqrt()
    return root


def expected_squared(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
    """E |z - z'|^2 of independent draws, [B], in the squared unit of z (method.md 3.7).

    Of a posterior to itself it is 2 sum sigma^2, and not 0.
    """
    return ((a.mu - b.mu).square() + a.sigma.square() + b.sigma.square()).sum(1)


def overlap(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
    """-log of the overlap, the integral of sqrt(p p'), in nats, [B]; sigma > 0 (method.md 3.1)."""
    distance: Tensor = _BHATTACHARYYA(a, b)
    return distance


BETWEEN: dict[str, Callable[[DiagonalGaussian, DiagonalGaussian], Tensor]] = {
    "overlap": overlap,
    "wasserstein": wasserstein,
    "expected_squared": expected_squared,
}
"""Distances between two images, of each row of a to that row of b."""


@torch.no_grad()
def nearest(
    queries: DiagonalGaussian,
    others: DiagonalGaussian,
    count: int,
    distance: str,
    *,
    cells: int = CELLS,
    progress: Callable[[int], None] = lambda queries: None,
) -> tuple[Tensor, Tensor]:
    """Rows of the `count` nearest of N others for each of M queries, and the distances, [M, count].

    Nearest first, the lower row first where two are equally near; fewer columns where N is smaller.
    Distances are taken by differences, so that nothing cancels between near-duplicates. Time O(M N
    K), memory as `cells` says; `progress` is called with the number of queries done.
    """
    rows: list[Tensor] = []
    distances: list[Tensor] = []
    for row in range(len(queries.mu)):
        query = queries.rows(slice(row, row + 1)).double()
        found = _nearest_to(query, others, count, distance, cells)
        for column, part in zip((rows, distances), found, strict=True):
            column.append(part)
        progress(1)
    return torch.stack(rows), torch.stack(distances)


def _nearest_to(
    query: DiagonalGaussian, others: DiagonalGaussian, count: int, distance: str, cells: int
) -> tuple[Tensor, Tensor]:
    """As `nearest`, of one posterior [1, K]."""
    rows = torch.empty(0, dtype=torch.int64, device=query.mu.device)
    best = torch.empty(0, dtype=torch.float64, device=query.mu.device)
    first = 0
    for block in _blocks(others, max(1, cells // query.mu.shape[1])):
        same = DiagonalGaussian(*(part.expand_as(block.mu) for part in query))
        best = torch.cat([best, BETWEEN[distance](same, block)])
        rows = torch.cat([rows, torch.arange(first, first + len(block.mu), device=rows.device)])
        first += len(block.mu)
        # Stable: what was found before has lower rows, and stays ahead of what is as near.
        order = best.argsort(stable=True)[:count]
        best, rows = best[order], rows[order]
    return rows, best


@torch.no_grad()
def near_pairs(
    posterior: DiagonalGaussian,
    limit: float,
    *,
    rows: int = ROWS,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[Tensor, Tensor]:
    """All pairs of rows [P, 2] whose `overlap` distance is at most `limit` nats, and those, [P].

    Nearest first. Matrix products only leave out what cannot be a pair, with room for their
    rounding; what remains is taken by differences. Memory O(N K + rows^2); `progress` is called
    with the number of rows done. Raises ParadiseError for more than `MOST_PAIRS`.
    """
    n = len(posterior.mu)
    # Around 0 the products below round least.
    centred = DiagonalGaussian(
        posterior.mu.double() - posterior.mu.double().mean(0), posterior.sigma.double()
    )
    found, distances, total = [], [], 0
    for start in range(0, n, rows):
        for other in range(start, n, rows):
            pairs = _candidates(centred, range(start, n)[:rows], range(other, n)[:rows], limit)
            for part in torch.split(pairs, max(1, CELLS // posterior.mu.shape[1])):
                apart = overlap(*(centred.rows(side) for side in part.unbind(1)))
                found.append(part[apart <= limit])
                distances.append(apart[apart <= limit])
                total += len(found[-1])
                if total > MOST_PAIRS:
                    raise ParadiseError(
                        f"more than {MOST_PAIRS:,} pairs overlap so far: these posteriors do not"
                        " tell the images apart; ask for a larger overlap, or take another model"
                    )
        progress(min(rows, n - start))
    joined = torch.cat(distances)
    order = joined.argsort(stable=True)
    return torch.cat(found)[order], joined[order]


def _candidates(posterior: DiagonalGaussian, these: range, those: range, limit: float) -> Tensor:
    """Pairs i < j [P, 2] of two blocks, all those with a distance of at most `limit` among them.

    BD >= sum (m - m')^2 / (4 (s^2 + s'^2)), which is at least the same with the largest s of each
    block in place of its own: a squared Euclidean distance.
    """
    (mu, sigma), (other_mu, other_sigma) = (
        posterior.rows(slice(block.start, block.stop)) for block in (these, those)
    )
    widest = (sigma.square().amax(0) + other_sigma.square().amax(0)).sqrt()
    a, b = mu / widest, other_mu / widest
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab as one product, less what its sums may be rounded by.
    loose = 1 - 4 * (a.shape[1] + 4) * torch.finfo(a.dtype).eps
    one, other = (part.new_ones(len(part), 1) for part in (a, b))
    left = torch.cat([-2 * a, loose * a.square().sum(1, keepdim=True), one], 1)
    right = torch.cat([b, other, loose * b.square().sum(1, keepdim=True)], 1)
    pairs = (left @ right.T <= 4 * limit * (1 + 1e-9)).nonzero()
    pairs += torch.tensor([these.start, those.start], device=pairs.device)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _blocks(posterior: DiagonalGaussian, rows: int) -> Iterator[DiagonalGaussian]:
    """The posteriors in blocks of so many rows, in float64."""
    for start in range(0, len(posterior.mu), rows):
        yield posterior.rows(slice(start, start + rows)).double()


def groups(pairs: Tensor) -> list[list[int]]:
    """The connected components of pairs of rows [P, 2], each sorted, the largest first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, places = torch.unique(pairs, return_inverse=True)
    first, second = places.reshape(-1, 2).unbind(1)
    shape = (len(nodes), len(nodes))
    graph = coo_array((torch.ones(len(first)).numpy(), (first.numpy(), second.numpy())), shape)
    _, labels = connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for node, label in zip(nodes.tolist(), labels.tolist(), strict=True):
        found.setdefault(label, []).append(node)
    return sorted(found.values(), key=lambda rows: (-len(rows), rows))
