"""How good encoders are: accuracy, distortion and rate."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions import Normal

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.core.randomness import generator
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Measured,
    Network,
    Quantity,
    only,
)

ROWS = 50  # draws whose densities under all posteriors are in memory at a time


@QUANTITIES.register
def accuracy() -> Quantity:
    """Share of test images whose class is right at z = mu."""

    def of(networks: Sequence[Network]) -> Measured:
        (found, *_) = only(networks).measurement.evaluation.classification or (None,)
        if found is None:
            raise ParadiseError(f"{networks[0].name} classifies nothing")
        return Measured.of(found.top1, found.n)

    return of


@QUANTITIES.register
def accuracy_by_answers() -> Quantity:
    """The same by another way: the classifier is asked image by image, as an attack asks it."""

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        examples = network.examples(len(network.opened.split))
        right = 0
        with torch.no_grad():
            # One at a time: a fault of batches, or of their padding, would show here.
            for image, label in zip(examples.images, examples.labels, strict=True):
                logits = network.classifier.function(image[None].to(network.loaded.device))
                right += int(int(logits.argmax()) == int(label))
        n = len(examples.images)
        return Measured.of(Proportion.of(right, n), n)

    return of


@QUANTITIES.register
def distortion() -> Quantity:
    """Mean distortion of the first task at sampled z, in its unit."""

    def of(networks: Sequence[Network]) -> Measured:
        found = only(networks).measurement.evaluation.distortion[0]
        half = NORMAL_95 * (found.sampled_error or 0.0)
        return Measured(found.sampled, found.sampled - half, found.sampled + half, found.n)

    return of


@QUANTITIES.register
def objective() -> Quantity:
    """What training minimises, D + alpha R, on test images: the distortion of the first task at
    sampled z and the exact rate.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        parts = [QUANTITIES[name]()(networks) for name in ("distortion", "rate")]
        weights = (1.0, network.loaded.recipe.objective.alpha)
        value = sum(w * part.value for w, part in zip(weights, parts, strict=True))
        # Of different draws of z, but the same images: the errors may add up.
        half = sum(w * (part.high - part.value) for w, part in zip(weights, parts, strict=True))
        return Measured(value, value - half, value + half, parts[0].n)

    return of


@QUANTITIES.register
def rate() -> Quantity:
    """I_N, the information between z and which of the N test images was encoded, in nats: the exact
    mixture at drawn z (method.md 2).
    """

    def of(networks: Sequence[Network]) -> Measured:
        found = only(networks).measurement.evaluation.rate
        if found is None:
            raise ParadiseError(f"{networks[0].name} has no rate: it is deterministic")
        exact, half = found.exact, NORMAL_95 * found.exact.standard_error
        return Measured(exact.nats, exact.nats - half, exact.nats + half, exact.n)

    return of


@QUANTITIES.register
def rate_by_distributions() -> Quantity:
    """The same by torch's own normal distributions, at other draws of z."""

    def of(networks: Sequence[Network]) -> Measured:
        mu, sigma = (each.double() for each in only(networks).posterior)
        noise = torch.randn(mu.shape, generator=generator(1, "rate"), dtype=torch.float64)
        z, found = mu + sigma * noise, []
        components: Any = Normal(mu, sigma)
        for rows in torch.split(torch.arange(len(mu)), ROWS):
            # [R, N]: each z under every component, its own among them.
            densities = components.log_prob(z[rows, None]).sum(2)
            own = densities[torch.arange(len(rows)), rows]
            found.append(own - (densities.logsumexp(1) - math.log(len(mu))))
        rates = torch.cat(found)
        half = NORMAL_95 * float(rates.std()) / math.sqrt(len(rates))
        mean = float(rates.mean())
        return Measured(mean, mean - half, mean + half, len(rates))

    return of
