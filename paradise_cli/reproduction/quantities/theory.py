"""Quantities of known sources, which need no network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paradise_cli.information.blahut_arimoto import DiscreteSource, blahut_arimoto
from paradise_cli.information.closed_forms import bernoulli as closed_form
from paradise_cli.information.known_sources import bernoulli
from paradise_cli.information.tabular import descend
from paradise_cli.reproduction.quantities.base import QUANTITIES, Count, Measured, Network, Quantity

P, OTHER = 0.3, 0.1  # of two coins
ALPHA = 0.5


@QUANTITIES.register
def largest_rise(*, stretch: float = 1.0, steps: Count = 400) -> Quantity:
    """Of F = D + alpha I by gradient steps on a table p(z|x) of a coin, the largest rise in a step
    as a share of its whole range; `stretch` multiplies a step that is known to be short enough
    (paper Eq. 5, method.md 2.2).
    """

    def of(networks: Sequence[Network]) -> Measured:
        values = descend(bernoulli(P).source, ALPHA, steps, stretch)
        return Measured.exactly(float(values.diff().max() / (values.max() - values.min())))

    return of


@QUANTITIES.register
def distance_from_optimum(*, stretch: float = 1.0, steps: Count = 4000) -> Quantity:
    """How far above its least value the same F ends, in nats; that value is of the closed R(D)."""

    def of(networks: Sequence[Network]) -> Measured:
        # Where R(D) has slope -1 / alpha, D + alpha R is least.
        curve = closed_form(P)
        best = curve.distortion(1 / ALPHA)
        least = best + ALPHA * curve.rate(best)
        found = descend(bernoulli(P).source, ALPHA, steps, stretch)
        return Measured.exactly(float(found[-1]) - least)

    return of


@QUANTITIES.register
def product_gap(*, independent: bool = True) -> Quantity:
    """How far the rate of two coins seen together lies from the sum of their rates, in nats, where
    R(D) has slope -1 / alpha. The second is `independent`, or a copy of the first (Shannon 1959).
    """

    def of(networks: Sequence[Network]) -> Measured:
        one = bernoulli(P).source
        other = bernoulli(OTHER).source if independent else one
        joint = torch.outer(one.probabilities, other.probabilities)
        together = joint if independent else one.probabilities.diag()
        apart = _rate(one) + _rate(other)
        return Measured.exactly(abs(_rate(_of_both(together, one, other)) - apart))

    return of


def _of_both(joint: Tensor, one: DiscreteSource, other: DiscreteSource) -> DiscreteSource:
    """The source of both letters, whose distortions add, given their joint probabilities [n, m]."""
    sums = one.distortion[:, None, :, None] + other.distortion[None, :, None, :]
    letters = joint.numel()
    return DiscreteSource(joint.flatten(), sums.reshape(letters, -1))


def _rate(source: DiscreteSource) -> float:
    """R where R(D) has slope -1 / alpha, in nats."""
    (point,) = blahut_arimoto(source, torch.tensor([1 / ALPHA]), tolerance=1e-9).points
    return (point.lower + point.upper) / 2
