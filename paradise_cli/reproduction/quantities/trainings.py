"""What a training did and cost: its terms by epoch, its passes and its operations."""

import math
from collections.abc import Sequence

from paradise_cli.core.errors import ParadiseError
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Measured,
    Network,
    Quantity,
    only,
    pair,
)
from paradise_cli.runs.work import Work, work_of


@QUANTITIES.register
def fall(*, term: str) -> Quantity:
    """How far a term of the training's log falls, from its first epoch to its last, as a share of
    the first: `distortion`, `matching`, `rate`, `loss`.
    """

    def of(networks: Sequence[Network]) -> Measured:
        values = _by_epoch(only(networks), term)
        # A log has one value an epoch: its error is that of the seeds.
        return Measured.exactly((values[0] - values[-1]) / abs(values[0]))

    return of


@QUANTITIES.register
def last(*, term: str) -> Quantity:
    """A term of the training's log in its last epoch."""

    def of(networks: Sequence[Network]) -> Measured:
        return Measured.exactly(_by_epoch(only(networks), term)[-1])

    return of


@QUANTITIES.register
def late_fall(*, term: str, when: str, below: float) -> Quantity:
    """Which share of a term's fall comes after the term `when` has gone below a share of its first
    value.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        values, guide = _by_epoch(network, term), _by_epoch(network, when)
        after = next((i for i, each in enumerate(guide) if each < below * guide[0]), None)
        if after is None:
            raise ParadiseError(f"{network.name}: {when} never falls below {below:g} of its first")
        # A share of a fall needs one.
        if values[0] <= values[-1]:
            raise ParadiseError(f"{network.name}: {term} does not fall")
        return Measured.exactly((values[after] - values[-1]) / (values[0] - values[-1]))

    return of


@QUANTITIES.register
def finite() -> Quantity:
    """1 where every term of every epoch of the training is a finite number, else 0."""

    def of(networks: Sequence[Network]) -> Measured:
        records = only(networks).run.records()
        values = [value for each in records for value in each["train"].values()]
        return Measured.exactly(float(all(math.isfinite(value) for value in values)))

    return of


@QUANTITIES.register
def passes_ratio() -> Quantity:
    """Images put forward and back through the backbone in a training step of the first network, as
    a multiple of those of the second.
    """

    def of(networks: Sequence[Network]) -> Measured:
        one, other = (_work(each) for each in pair(networks))
        return Measured.exactly((one.forward + one.back) / (other.forward + other.back))

    return of


@QUANTITIES.register
def score_share() -> Quantity:
    """Operations of the score of a batch, as a share of those of the whole step as torch counts its
    matrix products and convolutions: each of B latents lies in each of B posteriors, which takes
    four operations a dimension.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        recipe = _recipe(network)
        # Subtract, divide, square, add: for each latent of each pair in the batch.
        score = 4 * recipe.train.batch_size * recipe.model.latent_dim
        return Measured.exactly(score / _work(network).operations)

    return of


def _recipe(network: Network) -> Recipe:
    return load_recipe(str(network.run.recipe)).recipe


def _work(network: Network) -> Work:
    """For each image of a training step."""
    return work_of(_recipe(network))


def _by_epoch(network: Network, term: str) -> list[float]:
    """A term's mean over each epoch of the training."""
    records = network.run.records()
    values = [each["train"].get(term) for each in records]
    if not values or None in values:
        known = ", ".join(sorted(records[0]["train"])) if records else "nothing"
        raise ParadiseError(f"{network.name}: its log has no '{term}', but: {known}")
    return [float(value) for value in values]
