"""What a claim is about: one number of some trained networks, with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.registry import Registry
from paradise_cli.evaluation.evaluate import Measurement, measure_loaded
from paradise_cli.evaluation.evaluation_data import EvaluationData, split_for
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.reproduction.loss import Loss
from paradise_cli.robustness.classifiers import NamedClassifier, open_classifier
from paradise_cli.robustness.examples import Examples, open_examples
from paradise_cli.training.run_folder import RunFolder


@dataclass(frozen=True)
class Measured:
    """A number with its 95% interval over n images, or over whatever else it is a mean of.

    Of what is computed and not estimated the interval has no width, and n is 1.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def exactly(cls, value: float) -> "Measured":
        """A number without an error."""
        return cls(value, value, value, 1)

    @classmethod
    def of(cls, found: Mean | Proportion, n: int) -> "Measured":
        """A mean or share over n images."""
        return cls(found.value, found.low, found.high, n)


class Network:
    """A trained network in its run folder; what several quantities need of it is made once.

    `radius` is how far attacks may change a pixel, and `attacked` how many images are, where a
    quantity does not say it.
    """

    def __init__(
        self, name: str, path: Path, radius: float, attacked: int, device: str = "auto"
    ) -> None:
        self.name, self.path, self.radius = name, path, radius
        self._attacked, self._device = attacked, device

    @cached_property
    def run(self) -> RunFolder:
        """Its run folder."""
        return RunFolder(self.path)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, with its weights."""
        return load(str(self.path), self._device)

    @cached_property
    def opened(self) -> EvaluationData:
        """The test images of its data."""
        return split_for(self.loaded, None, None, ())

    @cached_property
    def measurement(self) -> Measurement:
        """Its evaluation on the test images."""
        return measure_loaded(self.loaded, self.opened)

    @cached_property
    def posterior(self) -> DiagonalGaussian:
        """Of its test images, each latent by itself, on the CPU; raises ParadiseError for a
        deterministic encoder.
        """
        if not self.loaded.model.stochastic:
            raise ParadiseError(f"{self.name} is deterministic: its posteriors are points")
        mu, sigma = self.measurement.posterior.marginals()
        # What is asked of posteriors is asked of pairs of them, by code that draws on the CPU.
        return DiagonalGaussian(mu.cpu(), sigma.cpu())

    @cached_property
    def classifier(self) -> NamedClassifier:
        """Its classification head, at the mean of z."""
        return open_classifier(str(self.path), device=self._device)

    def examples(self, n: int | None = None) -> Examples:
        """The first n labelled test images in the order in which all networks are attacked, or all
        if there are fewer.
        """
        return open_examples(self.classifier, most=n or self._attacked)

    # Not kept: it holds a copy of the network, prepared for one shape of images.
    def loss(self, examples: Examples) -> Loss:
        """Its cross-entropy at and around images."""
        return Loss(self.classifier.function, examples.images, examples.labels, self.loaded.device)


Count: TypeAlias = Annotated[int, Field(ge=1)]
"""How many of something, in the settings of a quantity."""

Quantity: TypeAlias = Callable[[Sequence[Network]], Measured]
"""What a check measures of the networks that it names."""

QUANTITIES: Registry[Quantity] = Registry("quantity")
"""Each by its name in a claim file; keyword-only parameters are its settings there."""


def only(networks: Sequence[Network]) -> Network:
    """The network of a quantity that is about one; raises ParadiseError for none or several."""
    if len(networks) != 1:
        names = ", ".join(each.name for each in networks) or "none"
        raise ParadiseError(f"this quantity is of one network, not of {names}")
    return networks[0]


def pair(networks: Sequence[Network]) -> tuple[Network, Network]:
    """The networks of a quantity that is about two; raises ParadiseError for any other number."""
    if len(networks) != 2:
        names = ", ".join(each.name for each in networks) or "none"
        raise ParadiseError(f"this quantity is of two networks, not of {names}")
    return networks[0], networks[1]
