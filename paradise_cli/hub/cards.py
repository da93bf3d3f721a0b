"""The cards of the zoo: what each model is, where its files are, and what was measured of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.units import quantity
from paradise_cli.core.yaml import parse

WEIGHTS = "model.safetensors"
"""The name of a model's weights in a repository of the Hub."""
CONFIG = "config.json"
"""By requests for this file the Hub counts downloads."""
CARD = "card.yaml"
"""The card of a run in its folder, and of a model in its repository."""
TRAINED, UNTRAINED = "trained", "not yet trained"

Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Code: TypeAlias = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|\d+\.\d+[\w.+-]*)$")]
"""The commit of the code that measured, or its version where it was installed without one."""
Words: TypeAlias = Annotated[str, Field(min_length=1)]
"""What a person has to write: an empty draft is no card."""
MetricName: TypeAlias = Literal["accuracy", "distortion", "rate", "robust accuracy"]
Task: TypeAlias = Literal["encode", "predict", "reconstruct"]
"""What a command makes of images: a posterior, classes, or the images again."""
Repo: TypeAlias = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class File(_Strict):
    """What a file must be: its digest and size."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=1)]


class OnTheHub(_Strict):
    """A repository of the Hub at one commit, and the files there."""

    repo: Repo
    revision: Commit
    files: dict[str, File]


class Attack(_Strict):
    """How a robust accuracy was measured, and what is known of its worth."""

    suite: str
    norm: Literal["linf", "l2", "l1"]
    eps: float
    verdict: Literal["not detected", "suspect", "obfuscated", "undecided"]


class Metric(_Strict):
    """One measured number with its interval, and how anyone can measure it again.

    Accuracies are shares of images, without a unit. A rate is the lower end of its certified
    interval, in nats. `attack` stands with robust accuracies alone.
    """

    name: MetricName
    value: float
    interval: tuple[float, float]
    unit: str = ""
    data: str
    n: Annotated[int, Field(ge=1)]
    seed: int
    commit: Code
    command: str
    attack: Attack | None = None

    @property
    def title(self) -> str:
        """Its name and, of a robust accuracy, the attack."""
        attack = self.attack
        if attack is None:
            return self.name
        return f"{self.name} under {attack.suite}, {attack.norm} {attack.eps:.4g}"

    def shown(self, number: float) -> str:
        """A number of this kind as people read it."""
        return quantity(number, self.unit)

    @model_validator(mode="after")
    def _whole(self) -> "Metric":
        low, high = self.interval
        if not low <= self.value <= high:
            raise ValueError(f"{self.value} lies outside its interval, {low} to {high}")
        # A robust accuracy without attack and verdict is no statement.
        if (self.name == "robust accuracy") != (self.attack is not None):
            raise ValueError("a robust accuracy, and nothing else, has an attack and its verdict")
        return self


class Training(_Strict):
    """What the training took: epochs, and images put through the network for each of an epoch."""

    epochs: int
    forward: float
    back: float


class Card(_Strict):
    """A model of the zoo.

    A trained one has a packaged file, files on the Hub, or both, and metrics; another says what it
    would cost to train.
    """

    summary: Words
    status: Literal["trained", "not yet trained"]
    recipe: Words
    trained_on: Words
    licence: Words
    intended_use: Words
    limits: Words
    training: Training | None = None
    packaged: File | None = None
    hub: OnTheHub | None = None
    metrics: list[Metric] = []
    # Data sets and shapes, as 1x28x28, whose default it is where no model is named, or `any`; and
    # the commands that take it then, where they are not all that it can do.
    default_for: list[str] = []
    default_to: list[Task] = ["encode", "predict", "reconstruct"]
    gpu_hours: float | None = None

    def can(self, task: Task) -> bool:
        """Whether the model has what a task needs: classes, or a decoder."""
        measured = {metric.name for metric in self.metrics}
        return {"predict": "accuracy", "reconstruct": "distortion"}.get(task) in {*measured, None}

    @model_validator(mode="after")
    def _of_its_status(self) -> "Card":
        files = self.packaged is not None or self.hub is not None
        if self.status == TRAINED and not (files and self.metrics and self.training):
            raise ValueError("a trained model has a file, metrics, and what its training took")
        if self.status == UNTRAINED and (files or self.metrics or self.gpu_hours is None):
            raise ValueError("a model that is not trained has gpu_hours, no files and no metrics")
        return self


def zoo_names() -> list[str]:
    """The names of the zoo, each of which has a card."""
    return [path.stem for path in sorted(resource_dir("zoo").glob("*.yaml"))]


def card(name: str) -> Card:
    """The card of that name; raises UsageError for an unknown one, ParadiseError for a bad card."""
    known = zoo_names()
    if name not in known:
        raise UsageError(
            f"{name}: no model of the zoo{did_you_mean(name, known)}; known: {', '.join(known)}"
        )
    return card_file(resource_dir("zoo") / f"{name}.yaml")


def card_file(path: Path) -> Card:
    """The card in a YAML file; raises ParadiseError for one that cannot be read, or a bad card."""
    return read_card(card_values(path), str(path))


def card_values(path: Path) -> dict[str, Any]:
    """What a YAML file says, be it a whole card or a draft; raises ParadiseError if unreadable."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParadiseError(f"{path}: the card cannot be read: {error}") from error
    document = parse(text, str(path))
    if document.problems:
        raise ParadiseError("\n".join(map(str, document.problems)))
    return dict(document.data)


def read_card(data: Mapping[str, Any], source: str) -> Card:
    """A card of JSON values; raises ParadiseError, naming the source, with all that is wrong."""
    try:
        return Card.model_validate_json(json.dumps(data))
    except ValidationError as error:
        lines = [
            f"{source}: {'.'.join(map(str, each['loc'])) or 'the card'}: {each['msg']}"
            for each in error.errors()
        ]
        raise ParadiseError("\n".join(lines)) from error


def packaged_for(task: Task) -> list[str]:
    """The names of the packaged models that have what a task needs."""
    packaged = [name for name in zoo_names() if packaged_file(name) is not None]
    return [name for name in packaged if card(name).can(task)]


def packaged_file(name: str) -> Path | None:
    """Where the weights of that name come with this package, if they do."""
    path = resource_dir("zoo") / f"{name}.safetensors"
    return path if path.is_file() else None
