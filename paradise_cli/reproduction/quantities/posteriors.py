"""What posteriors look like: how large, how far apart, of which images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.evaluation.cost_table import Column, Table
from paradise_cli.evaluation.image_costs import per_example, rank_correlation
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.information.neighbours import overlap as overlap_nats
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Measured,
    Network,
    Quantity,
    only,
)

PARTNERS = 1000  # of each image, in the mean over pairs
ROWS = 1000  # means whose distances to all others are in memory at a time
DRAWS = 500


@QUANTITIES.register
def log_volume() -> Quantity:
    """Mean over images of the sum of log sigma over latents, less that of the deviations of the
    aggregate posterior, in nats: how large posteriors are beside all of them together.
    """

    def of(networks: Sequence[Network]) -> Measured:
        # A network may make z as large as it likes: only what is relative to z means anything.
        mu, sigma = (each.double() for each in only(networks).posterior)
        whole = (mu.var(0, correction=0) + sigma.square().mean(0)).sqrt()
        volumes = (sigma / whole).log().sum(1)
        return Measured.of(Mean.of(volumes), len(volumes))

    return of


@QUANTITIES.register
def overlap() -> Quantity:
    """Mean over pairs of images of the integral of sqrt(p p'): 1 where posteriors are the same, 0
    where they do not touch (Bhattacharyya). Pairs are all, or a thousand random ones of each image.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        posterior = network.posterior
        n = len(posterior.mu)
        if n < 2:
            raise ParadiseError(f"{network.name}: one image overlaps with no other")
        rows, sums = torch.arange(n), torch.zeros(n, dtype=torch.float64)
        # Each image with the same number of others, never with itself.
        distances = permutation(n - 1, 0, "partners")[:PARTNERS] + 1
        for distance in distances:
            nats = overlap_nats(posterior, posterior.rows((rows + distance) % n))
            sums += (-nats.double()).exp()
        of_images = Mean.of(sums / len(distances))
        # Pairs share their images, which alone are independent: the variance of a mean over pairs
        # is 4 times that of each image's own mean, over n (Hoeffding 1948).
        low, high = (
            of_images.value + 2 * (end - of_images.value) for end in (of_images.low, of_images.high)
        )
        return Measured(of_images.value, max(low, 0.0), high, n)

    return of


@QUANTITIES.register
def cost_rank(*, column: str, shuffled: bool = False) -> Quantity:
    """Spearman's rho over images of the first task's distortion at z = mu with a `column`:
    log_volume, rate_nats, or `centre`, the distance of mu from the mean of all mu. With `shuffled`
    distortions belong to other images, drawn at random.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        table, name = _costs(network)
        # A control: what belongs to other images knows nothing of this one's posterior.
        if shuffled:
            values = table[name].values
            order = permutation(len(values), 0, "shuffled").tolist()
            table[name] = Column("double", [values[row] for row in order])
        found = rank_correlation(table, name, column)
        if found is None:  # of what never changes there are no ranks
            raise ParadiseError(f"{network.name}: {column} is the same for all images")
        return Measured(found.rho, found.low, found.high, found.n)

    return of


@QUANTITIES.register
def cost_rank_by_ranks(*, column: str) -> Quantity:
    """The same by its definition: Pearson's correlation of ranks, ties at their mean; the interval
    from a bootstrap over images.
    """

    def of(networks: Sequence[Network]) -> Measured:
        table, name = _costs(only(networks))
        both = torch.tensor([table[name].values, table[column].values], dtype=torch.float64)
        n = both.shape[1]
        rows = torch.randint(n, (DRAWS, n), generator=generator(0, "bootstrap"))
        drawn = torch.stack([_rank_correlation(both[:, some]) for some in rows])
        low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return Measured(float(_rank_correlation(both)), low, high, n)

    return of


@QUANTITIES.register
def neighbours() -> Quantity:
    """Share of test images whose nearest other mean has the same class: how far clusters are
    apart.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        same = _nearest_labels(network) == network.opened.split.labels[:, 0]
        return Measured.of(Proportion.of(int(same.sum()), len(same)), len(same))

    return of


@QUANTITIES.register
def mixing(*, groups: list[list[int]]) -> Quantity:
    """Of images whose nearest other mean has another class, the share where both classes lie in one
    of the `groups`, less the share that classes at random would give.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        own, near = network.opened.split.labels[:, 0], _nearest_labels(network)
        other = own != near
        n = int(other.sum())
        if n == 0:
            raise ParadiseError(
                f"{network.name}: each image's nearest other mean has its own class, so that no"
                " classes mix"
            )
        together = torch.zeros(len(own), dtype=torch.bool)
        for group in groups:
            members = torch.tensor(group)
            together |= torch.isin(own, members) & torch.isin(near, members)
        # Of all ordered pairs of different classes, those that lie in one group.
        classes = len(network.loaded.info.targets[0].classes)
        chance = sum(len(group) * (len(group) - 1) for group in groups) / (classes * (classes - 1))
        found = Proportion.of(int((together & other).sum()), n)
        return Measured(found.value - chance, found.low - chance, found.high - chance, n)

    return of


def _costs(network: Network) -> tuple[Table, str]:
    """The columns of all test images, and the name of the first task's distortion."""
    posterior = network.posterior
    table = per_example(network.measurement, network.loaded.info, network.opened.split)
    mu = posterior.mu.double()
    table["centre"] = Column("double", (mu - mu.mean(0)).norm(dim=1).tolist())
    task = network.measurement.scores[0].task.name
    return table, f"distortion_{task}_mean"


def _rank_correlation(pairs: Tensor) -> Tensor:
    """Pearson's correlation of the ranks of two rows [2, N]."""
    ranks = torch.stack([_ranks(row) for row in pairs])
    return torch.corrcoef(ranks)[0, 1]


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0, those of equal values at their mean."""
    _, places, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double() - 1
    ranks: Tensor = (last - (counts.double() - 1) / 2)[places]
    return ranks


def _nearest_labels(network: Network) -> Tensor:
    """The class of the nearest other mean of each test image, int64 [N]."""
    mu, labels = network.posterior.mu.double(), network.opened.split.labels[:, 0]
    near = []
    for rows in torch.split(torch.arange(len(mu)), ROWS):
        distances = torch.cdist(mu[rows], mu)
        # Each is nearest to itself, which says nothing.
        distances[torch.arange(len(rows)), rows] = torch.inf
        near.append(distances.argmin(1))
    return labels[torch.cat(near)]
