"""The cards of the zoo: what each model is, where its files are, and what was measured of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.units import quantity
from paradise_cli.core.yaml import Document, Place, parse
from paradise_cli.recipe.check import in_lines, validate
from paradise_cli.recipe.components import Strict, Written

WEIGHTS = "model.safetensors"
"""The name of a model's weights in a repository of the Hub."""
CONFIG = "config.json"
"""By requests for this file the Hub counts downloads."""
CARD = "card.yaml"
"""The card of a run in its folder, and of a model in its repository."""
_MODEL = re.compile(r"^(paradise (?:evaluate|attack) ).+?(?= --|$)")
"""Of a command, what comes before the model, and the model."""
_ALL, _SPLIT = "all of ", re.compile(r"(.+), (train|validation|test)")
"""Of data that have no splits, and of one split of others."""
TRAINED, UNTRAINED = "trained", "not yet trained"

Sha256: TypeAlias = Annotated[str, Written(r"[0-9a-f]{64}", "should be 64 digits of 0-9 and a-f")]
Commit: TypeAlias = Annotated[
    str, Written(r"[0-9a-f]{40}", "should be a commit, 40 digits of 0-9 and a-f")
]
Code: TypeAlias = Annotated[
    str,
    Written(
        r"[0-9a-f]{40}|\d+\.\d+[\w.+-]*",
        "should be a commit, 40 digits of 0-9 and a-f, or a version such as 0.1.0",
    ),
]
"""The commit of the code that measured, or its version where it was installed without one."""
Command: TypeAlias = Annotated[
    str,
    Written(
        # It is shown to be typed: nothing in it, outside of quotes, may be another command.
        r"""paradise (?:evaluate|attack) (?:[^;&|<>$`\\'"\x00-\x1f]|'[^'\x00-\x1f]*'|"'")+""",
        "should be a command, paradise evaluate or paradise attack with its options, and no other",
    ),
]
"""How anyone can measure a number again."""
Words: TypeAlias = Annotated[str, Field(min_length=1)]
"""What a person has to write: an empty draft is no card."""
MetricName: TypeAlias = Literal["accuracy", "distortion", "rate", "robust accuracy"]
Task: TypeAlias = Literal["encode", "predict", "reconstruct"]
"""What a command makes of images: a posterior, classes, or the images again."""
Repo: TypeAlias = Annotated[str, Written(r"[\w.-]+/[\w.-]+", "should be a repository, org/repo")]


class File(Strict):
    """What a file must be: its digest and size."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=1)]


class OnTheHub(Strict):
    """A repository of the Hub at one commit, and the files there."""

    repo: Repo
    revision: Commit
    files: dict[str, File]


class Attack(Strict):
    """How a robust accuracy was measured, and what is known of its worth."""

    suite: str
    norm: Literal["linf", "l2", "l1"]
    eps: float
    verdict: Literal["not detected", "suspect", "obfuscated", "undecided"]


class Metric(Strict):
    """One measured number with its interval, and how anyone can measure it again.

    Accuracies are shares of images, without a unit. A rate is the lower end of its certified
    interval, in nats. `attack` stands with robust accuracies alone, `task` where the model has
    several of that kind.
    """

    name: MetricName
    task: Words | None = None
    value: float
    interval: tuple[float, float]
    unit: str = ""
    data: str
    n: Annotated[int, Field(ge=1)]
    seed: int
    commit: Code
    command: Command
    attack: Attack | None = None

    @property
    def title(self) -> str:
        """Its name and task and, of a robust accuracy, the attack."""
        attack = self.attack
        name = self.name if self.task is None else f"{self.name} ({self.task})"
        if attack is None:
            return name
        return f"{name} under {attack.suite}, {attack.norm} {attack.eps:.4g}"

    @property
    def measured_on(self) -> tuple[str, str | None]:
        """The label of its data, which may have commas too, and their split if they have any."""
        if self.data.startswith(_ALL):
            return self.data.removeprefix(_ALL), None
        found = _SPLIT.fullmatch(self.data)
        return (found[1], found[2]) if found else (self.data, None)

    @property
    def label(self) -> str:
        """The data that it was measured on, without their split."""
        return self.measured_on[0]

    def shown(self, number: float) -> str:
        """A number of this kind as people read it."""
        return quantity(number, self.unit)

    @model_validator(mode="after")
    def _whole(self) -> "Metric":
        low, high = self.interval
        if not low <= self.value <= high:
            raise ValueError(f"{self.value} lies outside its interval, {low} to {high}")
        if "accuracy" in self.name and not 0 <= low <= high <= 1:
            raise ValueError(f"accuracies are shares, from 0 to 1, not {low} to {high}")
        if self.name == "rate" and self.task is not None:
            raise ValueError("a rate is that of all tasks together: leave out the task")
        # A robust accuracy without attack and verdict is no statement.
        if (self.name == "robust accuracy") != (self.attack is not None):
            raise ValueError("a robust accuracy, and nothing else, has an attack and its verdict")
        return self


class Training(Strict):
    """What the training took: epochs, and images put through the network for each of an epoch."""

    epochs: int
    forward: float
    back: float


class Card(Strict):
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
    metrics: list[Metric] = Field([])
    # Data sets and shapes, as 1x28x28, whose default it is where no model is named, or `any`; and
    # the commands that take it then, where they are not all that it can do.
    default_for: list[str] = Field([])
    default_to: list[Task] = Field(["encode", "predict", "reconstruct"])
    gpu_hours: float | None = None

    def can(self, task: Task) -> bool:
        """Whether the model has what a task needs: classes, or a decoder of pictures."""
        measured = {metric.name for metric in self.metrics}
        if task == "reconstruct":
            # What is reproduced may be features: the card says so by leaving the command out.
            return "distortion" in measured and task in self.default_to
        return task == "encode" or "accuracy" in measured

    def called(self, name: str) -> "Card":
        """The card with commands that call the model by this name, where others find it."""
        metrics = [
            # Whoever measured it may have called it by a folder of their own.
            metric.model_copy(update={"command": _MODEL.sub(rf"\g<1>{name}", metric.command, 1)})
            for metric in self.metrics
        ]
        return self.model_copy(update={"metrics": metrics})

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
    return sorted(path.stem for path in resource_dir("zoo").glob("*.yaml"))


def card(name: str) -> Card:
    """The card of that name; raises UsageError for an unknown one, ParadiseError for a bad card."""
    known = zoo_names()
    if name.partition("@")[0] in known and "@" in name:
        raise UsageError(f"{name}: models of the zoo have no revisions; leave out what follows @")
    if name not in known:
        raise UsageError(
            f"{name}: no model of the zoo{did_you_mean(name, known)}; known: {', '.join(known)}"
        )
    return card_file(resource_dir("zoo") / f"{name}.yaml")


def require_trained(name: str, card: Card) -> None:
    """Raise ParadiseError for a model of the zoo that nobody has trained yet, saying how to."""
    if card.status == UNTRAINED:
        raise ParadiseError(
            f"{name} is not yet trained: `paradise train {card.recipe}` would take about"
            f" {card.gpu_hours:g} GPU-hours; `paradise zoo info {name}` says more"
        )


def card_file(path: Path) -> Card:
    """The card in a YAML file; raises ParadiseError for one that cannot be read, or a bad card."""
    return _checked(_parsed(path))


def card_values(path: Path) -> dict[str, Any]:
    """What a YAML file says, be it a whole card or a draft; raises ParadiseError if unreadable."""
    return dict(_parsed(path).data)


def read_card(data: Mapping[str, Any], source: str) -> Card:
    """A card of JSON values; raises ParadiseError, naming the source, with all that is wrong."""
    return _checked(Document(source, dict(data), {(): Place(0, 1, 1, source)}))


def _parsed(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ParadiseError(f"{path}: the card cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParadiseError(f"{path}: the card cannot be read: it is not UTF-8 text") from error
    document = parse(text, str(path))
    if document.problems:
        raise ParadiseError(in_lines(document.problems))
    return document


def _checked(document: Document) -> Card:
    found = validate(Card, document)
    if found is None:
        raise ParadiseError(in_lines(document.problems))
    return found


def packaged_for(task: Task) -> dict[str, Card]:
    """The packaged models that have what a task needs, by name."""
    packaged = {name: card(name) for name in zoo_names() if packaged_file(name) is not None}
    return {name: each for name, each in packaged.items() if each.can(task)}


def packaged_file(name: str) -> Path | None:
    """Where the weights of that name come with this package, if they do."""
    path = resource_dir("zoo") / f"{name}.safetensors"
    return path if path.is_file() else None
