"""A recipe: everything that defines a training, checked before any data is touched."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.yaml import Document, Place, overrides_given, parse
from paradise_cli.data import AUGMENTATIONS, DATASETS
from paradise_cli.information.distances import DISTANCES
from paradise_cli.models import BACKBONES, HEADS
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.objective.rates import RATES
from paradise_cli.perturbations import SAMPLERS
from paradise_cli.perturbations.adversarial import Steps
from paradise_cli.perturbations.samplers import Radius
from paradise_cli.recipe.check import RecipeError, check_usable, in_a_line, validate
from paradise_cli.recipe.components import (
    Component,
    Configured,
    HeadName,
    OneOf,
    RunName,
    Strict,
    expand,
)
from paradise_cli.recipe.conflicts import conflicts
from paradise_cli.recipe.files import find_recipe, read_text
from paradise_cli.recipe.imports import import_modules
from paradise_cli.training.optim import OPTIMIZERS, SCHEDULES

MOST_LATENTS = 2**16  # the densities of a batch under itself, of a million, take gigabytes
MOST_PARTS = 64  # tasks, views or augmentations: more are no recipe, and compared in pairs

Positive = Annotated[float, Field(gt=0)]
ViewNumber = Annotated[int, Field(ge=0)]


class Data(Component):
    """A data set, how training images are varied, and which part of it is used."""

    root: Path | None = Field(
        None, description="Folder of the data; relative to the current folder"
    )
    augment: list[Annotated[Component, OneOf(AUGMENTATIONS)]] = Field(
        [],
        max_length=MOST_PARTS,
        description="Applied in this order to training images, one decision per image",
    )
    validation: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the training images held out if the data have no validation split",
    )
    labelled: int | None = Field(
        None,
        ge=1,
        description="Keep only this many training labels (semi-supervised); null keeps all",
    )


# Defaults below are those of a recipe; those of components stand in their factories alone.


class Model(Strict):
    """The encoder: normalisation, backbone and Gaussian head."""

    backbone: Annotated[Component, OneOf(BACKBONES)]
    latent_dim: int = Field(ge=1, le=MOST_LATENTS, description="Dimensions of z")
    stochastic: bool = Field(True, description="false: z is the mean, without noise")
    covariance: Literal["diagonal", "full"] = Field("diagonal", description="Of z, given an image")
    sigma_shift: float = Field(0.0, description="sigma = softplus(rho - shift) + floor")
    sigma_floor: Positive = Field(1e-4, description="Smallest sigma")
    mean: list[float] | None = Field(None, description="Per channel, subtracted from pixels")
    std: list[Positive] | None = Field(None, description="Per channel, divides the centred pixels")


class View(Component):
    """How the model sees each image."""

    around: int | None = Field(
        None, ge=0, description="Number of an earlier view that this one lies around; null: image"
    )


class Task(Strict):
    """One distortion, the head it is measured on, and its weight in D."""

    name: HeadName | None = Field(None, description="Name of the head")
    target: str | None = Field(None, description="Which label of the data; null: the first")
    distortion: Annotated[Component, OneOf(DISTORTIONS)]
    head: Annotated[Component, OneOf(HEADS)]
    weight: Positive = 1.0
    views: list[ViewNumber] | None = Field(
        None, min_length=1, description="Numbers of the views it is taken on; null: all of them"
    )


class Matching(Strict):
    """gamma E D(., .) between two views: of their posteriors, or of the outputs of the first task
    with labels.
    """

    between: tuple[ViewNumber, ViewNumber] = Field(
        (0, 1), description="Numbers of the two views, from 0"
    )
    of: Literal["posterior", "outputs"] = "posterior"
    distance: Annotated[Component, OneOf(DISTANCES)]
    gamma: Positive = Field(description="Weight: distortion given up per unit of the distance")
    warmup_steps: int = Field(0, ge=0, description="gamma rises linearly over these steps")
    partner: Literal["same", "other"] = Field(
        "same", description="other: each image is compared with the next one of its batch"
    )


class Linearity(Strict):
    """The loss should be its own tangent between two views (LLR, second order)."""

    between: tuple[ViewNumber, ViewNumber] = Field(
        (0, 1), description="Numbers of the image's view and of the point near it"
    )
    gamma: Positive = Field(description="Weight of the distance from the tangent")
    slope: float = Field(0.0, ge=0, description="Weight of how far the tangent rises")
    warmup_steps: int = Field(0, ge=0, description="Both weights rise linearly over these steps")


class Rate(Configured):
    """The estimator of the aggregate posterior q."""

    q: str


class Objective(Strict):
    """D + alpha R, or D + alpha R^2, plus what compares two views."""

    tasks: list[Task] = Field(
        min_length=1, max_length=MOST_PARTS, description="Distortions; their weighted sum is D"
    )
    # No default: it depends on the unit of the distortion, by a factor of thousands.
    alpha: float = Field(ge=0, description="Weight of the rate: distortion given up per nat")
    rate: Annotated[Rate, OneOf(RATES, key="q")] = Field({"q": "batch"}, validate_default=True)
    lagrangian: Literal["linear", "squared"] = Field(
        "linear",
        description="squared: D + alpha R^2, which traces a frontier that is a straight line",
    )
    matching: Matching | None = Field(None, description="Similar views, similar posteriors")
    linearity: Linearity | None = Field(None, description="A loss that is linear near an image")


class Optim(Component):
    """An optimiser, its learning rate over time, and gradient clipping."""

    handed = ("lr",)
    lr: Positive = Field(description="Learning rate, multiplied by the schedule's factor")
    schedule: Annotated[Component, OneOf(SCHEDULES)] = Field(
        {"name": "constant"}, validate_default=True
    )
    clip: Positive | None = Field(None, description="Largest norm of the gradient; null: any")


class Averaging(Strict):
    """Weights averaged over the last steps, kept beside the plain ones."""

    # Of the run and not in steps: a decay that suits long runs is none at all in short ones.
    share: float = Field(
        0.05, gt=0, le=1, description="Of the run's steps, the share that the average looks back"
    )


class ValidationAttack(Strict):
    """Signed gradient steps on the margin from a random start, in L-infinity."""

    eps: Radius = Field(description="Largest change of a pixel")
    steps: Steps = Field(10, description="Passes forward and back for each image")


class RobustChoice(Strict):
    """The best weights are those that most validation images under attack are read rightly by."""

    attack: ValidationAttack
    images: int = Field(1000, ge=1, description="Validation images attacked after each epoch")


with warnings.catch_warnings():
    # pydantic's models have an outdated method of that name, which nothing here calls.
    warnings.simplefilter("ignore")

    class _Validated(Strict):
        validate: RobustChoice | None = Field(  # type: ignore[assignment]
            None,
            description="Choose the best weights by accuracy under attack; null: by accuracy alone",
        )


class Train(_Validated):
    """How long and how the loop runs."""

    epochs: int = Field(ge=0)
    min_steps: int = Field(0, ge=0, description="Epochs are added until there are so many steps")
    # A batch of one has a rate of 0, whatever the encoder: log B is its cap.
    batch_size: int = Field(ge=2)
    accumulate: int = Field(1, ge=1, description="Parts in which a batch is computed, in turn")
    sync_batch_norm: bool = Field(False, description="Statistics of all processes; on GPUs")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where fast")
    channels_last: Literal["auto"] | bool = Field("auto", description="auto: where it is fast")
    compile: bool = Field(False, description="torch.compile")
    seed: int = Field(0, ge=0)
    init: str | None = Field(
        None,
        description="Run folder, weights file or zoo name to start from; a head for other classes"
        " starts anew",
    )
    average: Averaging | None = Field(None, description="Averaged weights too; null: only plain")
    frontier: list[Positive] = Field(
        [], max_length=MOST_PARTS, description="Alphas at which a copy is trained at the end"
    )
    checkpoint_minutes: Positive = 5.0
    log: Literal["tensorboard"] | None = Field(None, description="Also write each epoch there")


class Recipe(Strict):
    """A PARADISE recipe."""

    name: RunName = Field(description="Names the run folder")
    imports: list[str] = Field(
        [], description="Modules to import first; they register components of their own"
    )
    data: Annotated[Data, OneOf(DATASETS)]
    model: Model
    views: list[Annotated[View, OneOf(SAMPLERS)]] = Field(
        [{"name": "image"}],
        min_length=1,
        max_length=MOST_PARTS,
        validate_default=True,
        description="What the model sees of each image",
    )
    objective: Objective
    optim: Annotated[Optim, OneOf(OPTIMIZERS)]
    train: Train

    def resolved(self) -> dict[str, Any]:
        """The recipe as JSON values with every default filled in; `parse_resolved` reads it
        back.
        """
        return self.model_dump(mode="json")

    def with_train(self, **changes: Any) -> "Recipe":
        """The recipe with other values of its `train` section, which are not checked again."""
        return self.model_copy(update={"train": self.train.model_copy(update=changes)})


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and the file it came from."""

    recipe: Recipe
    source: Path
    shipped: bool  # the given path did not exist: the shipped recipe of that name was taken

    @property
    def note(self) -> str | None:
        """What to tell the user about where the recipe came from, if anything."""
        return (
            f"using the shipped recipe '{self.source.stem}' ({self.source})"
            if self.shipped
            else None
        )


def load_recipe(path_or_name: str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read and check a recipe file, or the shipped recipe of that name, with `--set` overrides.

    Raises RecipeError, a UsageError, with every mistake in one message, a line each.
    """
    path, shipped = find_recipe(path_or_name)
    document = parse(read_text(path), str(path))
    # Text that is no YAML leaves nothing to check further.
    if document.data or not document.problems:
        _expand(document)
        for number, text in enumerate(overrides_given(overrides), start=1):
            document.override(number, text)
            # Again: an override may name a component in short, as `optim.schedule=constant`.
            _expand(document)
    check_usable(document)
    recipe = _check(document)
    if recipe is None:
        raise RecipeError(document.problems)
    return LoadedRecipe(recipe, path, shipped)


def parse_resolved(data: dict[str, Any], source: str) -> Recipe:
    """The recipe stored with weights or a run; raises ParadiseError naming that `source`."""
    here = Place(0, 1, 1, "")  # stored values have no lines that could be named
    document = Document(source, data, {(): here})
    if not import_modules(document):
        raise ParadiseError(
            f"{source} needs modules that cannot be imported: {in_a_line(document.problems)}"
        )
    recipe = _check(document)
    if recipe is None:
        raise ParadiseError(
            f"the recipe stored in {source} does not fit this version of PARADISE:"
            f" {in_a_line(document.problems)}"
        )
    return recipe


class _Schema(GenerateJsonSchema):
    """A JSON schema in which a number may be written as a fraction."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        fraction = {"type": "string", "pattern": r"^[-+0-9.eE ]+/[-+0-9.eE ]+$"}
        return {"anyOf": [super().float_schema(schema), fraction]}


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files, for editors."""
    found = Recipe.model_json_schema(schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _expand(document: Document) -> None:
    """Import the modules that the recipe names now, and spell out components written by name.

    Raises RecipeError for a module that cannot be imported: what it would have registered is then
    no mistake of its own.
    """
    if not import_modules(document):
        raise RecipeError(document.problems)
    document.data = expand(Recipe, document.data)


def _check(document: Document) -> Recipe | None:
    """The validated recipe, or None with the reasons among the document's problems."""
    if document.problems and not document.data:
        return None
    recipe = validate(Recipe, document)
    # Only of a recipe whose single fields are right: else the same mistake is told twice.
    if recipe is not None:
        for path, text in conflicts(recipe):
            document.complain(path, text)
    return None if document.problems else recipe
