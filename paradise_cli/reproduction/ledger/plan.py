"""Which trainings claims need at a scale, what those take, and why some cannot be run."""

from collections.abc import Sequence
from dataclasses import dataclass

from paradise_cli.build import build_data
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.resources import data_dir
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.reproduction.ledger.claims import NETWORKS, Claim, Ledger, Scale, Training, named
from paradise_cli.sweep.plan import SEED, SweepPoint


@dataclass(frozen=True)
class Plan:
    """The trainings of some claims at a scale; `missing` says why claims, by name, are left out."""

    scale: Scale
    claims: tuple[Claim, ...]
    trainings: dict[tuple[str, int], Training]
    missing: dict[str, str]

    @property
    def minutes(self) -> float:
        """Of one core, for all trainings whose cost is known."""
        return sum(each.minutes or 0.0 for each in self.trainings.values())

    @property
    def gpu_hours(self) -> float:
        """Of one GPU, for those that are told so."""
        return sum(each.gpu_hours or 0.0 for each in self.trainings.values())


def plan(ledger: Ledger, claims: Sequence[Claim], scale: Scale) -> Plan:
    """What these claims need at a scale."""
    missing = {claim.claim: why for claim in claims if (why := _why_not(ledger, claim, scale))}
    kept = tuple(claim for claim in claims if claim.claim not in missing)
    trainings = {
        (name, seed): ledger.networks.networks[name][scale]
        for claim in kept
        for name in sorted(named(claim))
        for seed in range(claim.seeds)
        if scale in ledger.networks.networks[name]
    }
    return Plan(scale, kept, trainings, missing)


def _why_not(ledger: Ledger, claim: Claim, scale: Scale) -> str | None:
    if claim.unchecked is not None:
        return claim.unchecked
    if scale in claim.not_run:
        return claim.not_run[scale]
    if scale not in ledger.networks.radius or scale not in ledger.networks.attacked:
        return f"{NETWORKS} has no radius, or no number of attacked images, at this scale"
    # A cell of a table may stay empty, a check may not.
    needed = named(claim.model_copy(update={"cells": []}))
    lacking = [name for name in sorted(needed) if scale not in ledger.networks.networks[name]]
    return f"no training of {', '.join(lacking)} at this scale" if lacking else None


def points(ledger: Ledger, chosen: Plan) -> tuple[list[SweepPoint], dict[tuple[str, int], str]]:
    """The runs of a plan whose data are at hand, and why others, by network and seed, are left
    out.
    """
    found: list[SweepPoint] = []
    absent: dict[tuple[str, int], str] = {}
    tried: dict[str, str | None] = {}
    for (name, seed), training in chosen.trainings.items():
        recipe = recipe_of(ledger, training, seed)
        # Reading data takes seconds, and many networks have the same.
        key = recipe.data.model_dump_json()
        if key not in tried:
            tried[key] = _why_no_data(recipe)
        if (why := tried[key]) is None:
            found.append(SweepPoint(run_name(name, seed), {}, recipe))
        else:
            absent[name, seed] = why
    return found, absent


def recipe_of(ledger: Ledger, training: Training, seed: int) -> Recipe:
    """The recipe of a network with one seed."""
    changes = [text for name in training.using for text in ledger.networks.settings[name]]
    changes += [*training.set, f"{SEED}={training.first_seed + seed}"]
    try:
        recipe = load_recipe(training.recipe, changes).recipe
    except UsageError as error:
        raise ParadiseError(f"{ledger.folder / NETWORKS}: {training.recipe}: {error}") from error
    if recipe.data.name != "image_folder" or recipe.data.root is not None:
        return recipe
    # No ledger knows where a user keeps a folder of images: where other data sets lie, too.
    root = data_dir() / recipe.data.hyper["label"]
    return load_recipe(training.recipe, [*changes, f"data.root={root}"]).recipe


def run_name(network: str, seed: int) -> str:
    """What the run of a network with one seed is called."""
    return f"{network}-{seed}"


def _why_no_data(recipe: Recipe) -> str | None:
    try:
        build_data(recipe)
    except ParadiseError as error:
        return str(error)
    return None
