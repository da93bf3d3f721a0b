"""The claims of the paper as files: what each says, what would decide it, and what was found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, Field, model_validator

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.yaml import Document, parse
from paradise_cli.perturbations.samplers import Radius
from paradise_cli.recipe.check import in_lines, validate
from paradise_cli.recipe.components import Component, OneOf, Strict, Written, expand
from paradise_cli.reproduction.quantities import QUANTITIES
from paradise_cli.reproduction.quantities.base import Count

M = TypeVar("M", bound=BaseModel)

Scale: TypeAlias = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
"""Minutes on a CPU, hours on one, and what the paper used."""
RESULTS = "results"
"""The last key of a claim's file, below which runs write."""
RESULTS_LAST = "{}: 'results' has to be its last key: move it to the end"
NETWORKS = "networks.yaml"
"""The file of a folder of claims that says how each network is trained."""

Verdict: TypeAlias = Literal["reproduced", "refuted", "differs", "undecided", "void"]
"""`differs`: between both bounds; `void`: the control passes, or two computations disagree;
`undecided`: whatever the errors leave open.
"""
Words: TypeAlias = Annotated[str, Field(min_length=1)]
Names: TypeAlias = list[Annotated[str, Field(min_length=1)]]
Bound: TypeAlias = Annotated[
    str, Written(r"[<>] -?\d+(\.\d+)?(e-?\d+)?", "should be as '> 0.5' or '< -1e-3'")
]


class Quantity(Component):
    """A quantity by its name, with its settings."""


Chosen: TypeAlias = Annotated[Quantity, OneOf(QUANTITIES)]


class Check(Strict):
    """One number, and what it must be: `quantity` of the networks `of`, less that of `minus`.

    With 95% of its interval beyond `supported` the claim is reproduced, beyond `refuted` it is
    refuted.
    """

    quantity: Chosen
    of: Names = Field([])
    minus: Names = Field([])
    supported: Bound
    refuted: Bound

    @model_validator(mode="after")
    def _apart(self) -> "Check":
        (up, support), (down, refute) = threshold(self.supported), threshold(self.refuted)
        if up == down or (support - refute) * (1 if up else -1) < 0:
            raise ValueError(
                f"supported {self.supported} and refuted {self.refuted} overlap or leave no room"
                " for doubt: they should point away from each other"
            )
        return self


class Control(Strict):
    """The same check of other networks, or with another quantity: it must not be supported."""

    why: Words
    quantity: Chosen | None = None
    of: Names | None = None
    minus: Names | None = None


class Second(Strict):
    """The check's number computed in another way, which must agree within the errors of both."""

    how: Words
    quantity: Chosen


class Cell(Strict):
    """A share of the paper's, in percent, and the quantity of ours that stands beside it."""

    row: Words
    column: Words
    paper: float | None = None
    quantity: Chosen | None = None
    of: Names = Field([])
    why_not: Words | None = None
    """Why there is none of ours."""


class Number(Strict):
    """A number with its 95% interval: over n images where one seed was run, else over seeds."""

    value: float
    interval: tuple[float, float]
    n: int


class Result(Strict):
    """What a run of the ledger found: never taken away again."""

    scale: Scale
    verdict: Verdict
    note: str = ""
    found: Number
    control: Number | None = None
    second: Number | None = None
    cells: list[Number | None] = Field([])
    seeds: list[int]
    commit: Words
    machine: Words
    command: Words


class Claim(Strict):
    """A claim, experiment, baseline or extension of the paper.

    One without a `check` says why it has none; so does a check without a `control`.
    """

    claim: Words
    kind: Literal["claim", "experiment", "baseline", "extension"]
    place: Words
    says: Words
    paper: str = ""
    table: int | None = None
    figure: int | None = None
    check: Check | None = None
    unchecked: Words | None = None
    control: Control | None = None
    no_control: Words | None = None
    second: Second | None = None
    cells: list[Cell] = Field([])
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    not_run: dict[Scale, Words] = Field({})
    results: list[Result] = Field([])

    @model_validator(mode="after")
    def _whole(self) -> "Claim":
        if (self.check is None) == (self.unchecked is None):
            raise ValueError("a claim has a check, or says by `unchecked` why there is none")
        if self.check and (self.control is None) == (self.no_control is None):
            raise ValueError("a check has a control, or says by `no_control` why there is none")
        return self

    def newest(self, scale: Scale) -> Result | None:
        """The last result at a scale; those before it are superseded."""
        return next((each for each in reversed(self.results) if each.scale == scale), None)


class Training(Strict):
    """How a network is trained at one scale, and what that takes.

    `set` changes the recipe after what the settings `using` change; seeds are counted from the
    first. `minutes` are of one core, `gpu_hours` of one H100.
    """

    recipe: Words
    using: Names = Field([])
    set: Names = Field([])
    first_seed: Annotated[int, Field(ge=0)] = 0
    minutes: float | None = None
    gpu_hours: float | None = None


class Networks(Strict):
    """Every network that a claim names, at the scales at which it can be trained; how far attacks
    may change a pixel at each, and how many images are attacked.
    """

    radius: dict[Scale, Radius]
    attacked: dict[Scale, Count]
    settings: dict[str, Names] = Field({})
    networks: dict[str, dict[Scale, Training]]

    @model_validator(mode="after")
    def _named(self) -> "Networks":
        trainings = [(name, *each) for name, of in self.networks.items() for each in of.items()]
        for name, scale, training in trainings:
            if lacking := {*training.using} - self.settings.keys():
                raise ValueError(f"networks.{name}: no settings '{lacking.pop()}' to be using")
            if scale not in self.radius or scale not in self.attacked:
                raise ValueError(f"networks.{name}: radius and attacked say nothing of {scale}")
        return self


@dataclass(frozen=True)
class Ledger:
    """The claims of a folder, by name in the paper's order, and their networks."""

    folder: Path
    claims: Mapping[str, Claim]
    networks: Networks

    def file(self, name: str) -> Path:
        """Where a claim stands."""
        return self.folder / f"{name}.yaml"

    def chosen(self, words: list[str]) -> list[Claim]:
        """The claims that are named, as C4, table1, figure5 or all; UsageError for another word."""
        found: dict[str, Claim] = {}
        for word in words:
            matching = [each for each in self.claims.values() if word.lower() in _called(each)]
            if not matching:
                known = {name for each in self.claims.values() for name in _called(each)}
                hint = did_you_mean(word, sorted(known))
                raise UsageError(
                    f"{word}: no claim, table or figure of that name{hint}; `paradise reproduce"
                    " --list` shows all"
                )
            found |= {each.claim: each for each in matching}
        return [each for name, each in self.claims.items() if name in found]


def _called(claim: Claim) -> set[str]:
    """All words that mean a claim."""
    kinds = {"table": claim.table, "figure": claim.figure}
    numbered = {f"{kind}{number}" for kind, number in kinds.items() if number is not None}
    return {claim.claim.lower(), "all", *numbered}


def threshold(text: str) -> tuple[bool, float]:
    """Whether a bound asks for more, and than what."""
    side, _, number = text.partition(" ")
    return side == ">", float(number)


def open_ledger(folder: Path) -> Ledger:
    """All claims of a folder; raises ParadiseError with every mistake of every file."""
    if not (folder / NETWORKS).is_file():
        raise ParadiseError(f"{folder} holds no claims: there is no {NETWORKS}")
    # All at once, as of a recipe: a ledger is mended in one go.
    problems: list[str] = []
    networks = _read(folder / NETWORKS, Networks, problems)
    files = sorted(folder.glob("*.yaml"), key=lambda path: _order(path.stem))
    read = [(path, _read(path, Claim, problems)) for path in files if path.name != NETWORKS]
    claims = {claim.claim: claim for _, claim in read if claim is not None}
    # Results are written by the name of the claim: another file would get them.
    for path, claim in read:
        if claim is not None and claim.claim != path.stem:
            problems.append(f"{path}: it holds the claim {claim.claim}: call the file by that")
    if networks is not None:
        problems += [
            f"{folder / name}.yaml: no network '{each}' in {NETWORKS}"
            f"{did_you_mean(each, networks.networks)}"
            for name, claim in claims.items()
            for each in sorted(named(claim) - networks.networks.keys())
        ]
    if problems or networks is None:
        raise ParadiseError("\n".join(problems))
    return Ledger(folder, claims, networks)


def read_claim(path: Path) -> Claim:
    """A claim as it stands in its file; raises ParadiseError with every mistake."""
    problems: list[str] = []
    claim = _read(path, Claim, problems)
    if problems or claim is None:
        raise ParadiseError("\n".join(problems))
    return claim


def _ends_in_results(data: Mapping[str, Any]) -> bool:
    """Whether nothing stands below the results in a file, which writing them would lose."""
    return RESULTS not in data or [*data][-1] == RESULTS


def named(claim: Claim) -> set[str]:
    """Every network that a claim names."""
    # Not those of a quantity's settings: they name columns and samplers, never networks.
    lists = [cell.of for cell in claim.cells]
    if claim.check is not None:
        lists += [claim.check.of, claim.check.minus]
    if claim.control is not None:
        lists += [claim.control.of or [], claim.control.minus or []]
    return {name for names in lists for name in names}


def _read(path: Path, kind: type[M], problems: list[str]) -> M | None:
    try:
        document: Document = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ParadiseError(f"{path}: cannot be read: {error}") from error
    # Else it would be told when the first number is written, after hours.
    if not _ends_in_results(document.data):
        problems.append(RESULTS_LAST.format(path))
    data: Any = expand(kind, document.data)
    document.data = data
    found = None if document.problems else validate(kind, document)
    if document.problems:
        problems.append(in_lines(document.problems))
    return found


def _order(name: str) -> tuple[int, int, str]:
    """C2 before C10; claims, experiments, baselines, extensions."""
    letters = name.rstrip("0123456789")
    number = name[len(letters) :]
    return "CEBX".find(letters), int(number or 0), name
