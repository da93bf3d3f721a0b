"""Everything that a training needs before its first step: built, checked, and nothing written."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from paradise_cli.build import (
    build_average,
    build_data,
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
    check_validation,
    check_views,
    settled,
)
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import environment
from paradise_cli.core.processes import world_size
from paradise_cli.data import DataBundle, DataInfo, Split
from paradise_cli.inference.feature_views import feature_views
from paradise_cli.inference.features import behind_backbone, featured
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.weights import read_model, save_model
from paradise_cli.objective.objective import Objective
from paradise_cli.recipe.imports import module_digests
from paradise_cli.recipe.schema import Recipe, load_recipe, parse_resolved
from paradise_cli.runs.estimate import require_division
from paradise_cli.runs.initial_weights import start_from
from paradise_cli.runs.memory import check_memory
from paradise_cli.runs.precision import in_sound_precision
from paradise_cli.training.average import Average
from paradise_cli.training.checkpoint import Checkpoints, Saved, trained_modules
from paradise_cli.training.data_identity import differences, identity
from paradise_cli.training.loop import Reporter
from paradise_cli.training.run_folder import AVERAGED, PLAIN, RunFolder
from paradise_cli.training.step import Plan, batch_of


@dataclass(frozen=True)
class Training:
    """What one training is made of, where it goes on from, and where it writes.

    `recipe` has nothing left to the machine. `pictured` describes the images that the trained model
    will read; behind a frozen backbone `data` holds their features. `extended` says of a training
    that goes on longer than planned at which step, and how many epochs were planned and are now.
    """

    recipe: Recipe
    folder: RunFolder
    pictured: DataInfo
    data: DataBundle
    model: StochasticEncoder
    average: Average | None
    objective: Objective
    optimizer: Optimizer
    plan: Plan
    device: torch.device
    checkpoints: Checkpoints
    saved: Saved | None
    extended: dict[str, int] | None

    @property
    def step(self) -> int:
        """How many steps are done already."""
        return self.saved.step if self.saved else 0

    def environment(self) -> dict[str, Any]:
        """Where and how it runs, with all decided that the recipe leaves to the machine."""
        return environment(self.device) | {
            "precision": self.plan.precision,
            "channels_last": self.plan.channels_last,
            "compile": self.plan.compile,
            "processes": world_size(),
            "imports": module_digests(self.recipe.imports),
        }

    def begin(self) -> str | None:
        """Write down what begins here; says what changed since a training that goes on."""
        return self.folder.begin(self.recipe.resolved(), self.environment(), self.extended)

    @property
    def models(self) -> dict[str, StochasticEncoder]:
        """The model by kind of weights: plain, and averaged where the recipe asks for it."""
        return {PLAIN: self.model} | ({AVERAGED: self.average.model} if self.average else {})

    def save(self, moment: str, kind: str, step: int) -> None:
        """Write the weights of that kind, `last` or `best`, as they are after `step` steps."""
        which = f"{moment} {kind}"
        metadata = weights_metadata(self.recipe, self.pictured, self.device, step, which)
        save_model(self.folder.weights[moment, kind], self.models[kind], metadata)


def prepare(recipe: Recipe, folder: RunFolder, device: torch.device, report: Reporter) -> Training:
    """The training of a recipe in a folder that it has locked, from its start or a checkpoint.

    Raises UsageError where the folder was started with another recipe or other data.
    """
    started = None
    if folder.recipe.exists():
        # Read as a recipe, so that a default of a newer version is no change.
        started = load_recipe(str(folder.recipe)).recipe
        folder.refuse_change(started.resolved(), recipe.resolved(), going_on=True)
        # A GPU must not go on in bf16 with what a CPU began in fp32.
        recipe = _decided_as(started, recipe)
    info = build_info(recipe)
    check_memory(recipe, info, device)
    check_views(recipe, info)
    check_validation(recipe, info)
    images = _data(recipe, report)
    # A damaged record would stop the training only at its end.
    folder.records()
    model, data = _behind_backbone(build_model(recipe, images.info).to(device), images, recipe)
    objective = build_objective(recipe, data.info).to(device)
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    # An average has the tensors of its model.
    modules = trained_modules(model, objective, None if recipe.train.average is None else model)
    if started is None:  # else it goes on in what it began in, bit for bit
        recipe = in_sound_precision(recipe, model, data.info.shape, device)
    plan = build_plan(recipe, model, device)
    recipe = settled(recipe, plan)
    # Of the images, also where it learns from features of them: those are rounded elsewhere.
    stands_on = {"recipe": recipe.name, "settings": recipe.resolved(), "data": identity(images)}
    checkpoints = Checkpoints(folder.checkpoints, stands_on)
    saved = _saved(folder, checkpoints, modules, optimizer, report)
    # A checkpoint replaces all weights: those of the start may be gone by now.
    if recipe.train.init is not None and saved is None:
        report.say(start_from(model, recipe, data.info, recipe.train.init))
    return Training(
        recipe=recipe,
        folder=folder,
        pictured=images.info,
        data=data,
        model=model,
        average=build_average(recipe, model, len(data.train)),
        objective=objective,
        optimizer=optimizer,
        plan=plan,
        device=device,
        checkpoints=checkpoints,
        saved=saved,
        extended=_extension(started, recipe, saved),
    )


def _data(recipe: Recipe, report: Reporter) -> DataBundle:
    """The recipe's data, of which the user is told what there is to know."""
    data = build_data(recipe)
    for line in data.notes:
        report.say(f"note: {line}")
    _require_parts(recipe, data.train)
    return data


def _behind_backbone(
    model: StochasticEncoder, data: DataBundle, recipe: Recipe
) -> tuple[StochasticEncoder, DataBundle]:
    """What is trained, and on what: features of a frozen backbone are computed once."""

    def given(split: Split | None) -> Split | None:
        return None if split is None else featured(split, model, data.info)

    trained, info = behind_backbone(model, data.info)
    if recipe.train.sync_batch_norm and world_size() > 1:
        # In place, around the same weights.
        nn.SyncBatchNorm.convert_sync_batchnorm(trained)  # type: ignore[no-untyped-call]
    train = featured(data.train, model, data.info, feature_views(recipe))
    return trained, DataBundle(info, train, given(data.validation), given(data.test), data.notes)


def _require_parts(recipe: Recipe, train: Split) -> None:
    """Raise UsageError for training images whose batches cannot be computed part by part."""
    parts = recipe.train.accumulate
    if parts == 1:
        return
    require_division(parts, batch_of(len(train), recipe.train.batch_size), world_size())
    # The mean over the labelled ones of a batch is not the mean of its parts' means.
    if bool((train.labels < 0).any()):
        raise UsageError(
            "train.accumulate: some training images have no label, and labels are counted over the"
            " whole batch: use 1"
        )


def _decided_as(started: Recipe, recipe: Recipe) -> Recipe:
    """The recipe with what it leaves to the machine as it was decided at the start."""
    decided = {
        name: getattr(started.train, name) for name, value in recipe.train if value == "auto"
    }
    return recipe.with_train(**decided)


def _saved(
    folder: RunFolder,
    checkpoints: Checkpoints,
    modules: dict[str, nn.Module],
    optimizer: Optimizer,
    report: Reporter,
) -> Saved | None:
    """The checkpoint to go on from; errors as those of `_require_fit`."""
    found = checkpoints.newest(
        report.say, lambda saved: _require_fit(saved, folder, checkpoints, modules, optimizer)
    )
    return None if found is None else _with_best_there(found, folder, report)


def _require_fit(
    saved: Saved,
    folder: RunFolder,
    checkpoints: Checkpoints,
    modules: dict[str, nn.Module],
    optimizer: Optimizer,
) -> None:
    """Raise UsageError for another recipe or other data, ParadiseError for what is no checkpoint
    of this training.
    """
    _refuse_other_recipe(folder, saved, checkpoints)
    # The data before the tensors: of other classes those are others, too.
    _refuse_other_data(folder, saved, checkpoints)
    saved.require_fit(modules, optimizer)


def _refuse_other_recipe(folder: RunFolder, saved: Saved, checkpoints: Checkpoints) -> None:
    """Raise UsageError where the checkpoint was made by another recipe, whatever the folder says.

    It may be of another run, and the folder's own recipe may be gone.
    """
    before, now = saved.metadata.get("settings"), checkpoints.metadata["settings"]
    if before is None:  # of an older version
        return
    # To read a recipe imports what it names: nothing that this one does not.
    imports = {"imports": before.get("imports")}
    folder.refuse_change(imports, {"imports": now["imports"]}, source=saved.path)
    started = parse_resolved(before, str(saved.path)).resolved()
    folder.refuse_change(started, now, going_on=True, source=saved.path)


def _with_best_there(saved: Saved, folder: RunFolder, report: Reporter) -> Saved:
    """The checkpoint without those of its best weights whose file is not there, which is said."""
    for kind, step in saved.best.items():
        path = folder.weights["best", kind]
        try:
            there = read_model(path)[1]["provenance"]["step"]
        except (ParadiseError, LookupError, TypeError):
            there = None
        # Those of a later step, which a killed process wrote, are made again only where it goes on
        # bit for bit: elsewhere that step may be no improvement.
        if there != step:
            report.say(
                f"warning: {path} does not hold the best weights so far, of step {step:,}: the best"
                " are chosen from what comes"
            )
            saved = saved.without_best(kind)
    return saved


def _refuse_other_data(folder: RunFolder, saved: Saved, checkpoints: Checkpoints) -> None:
    """Raise UsageError where the data are not those of the checkpoint."""
    before = saved.metadata.get("data")  # older versions did not keep it
    changes = differences(before, checkpoints.metadata["data"]) if before else []
    if changes:
        raise UsageError(
            f"{folder.path} was started with other data:\n" + "\n".join(changes) + "\n"
            "bring the data back, choose another --out, or start over beside it with --fresh"
        )


def _extension(
    started: Recipe | None, recipe: Recipe, saved: Saved | None
) -> dict[str, int] | None:
    if started is None or started.train.epochs == recipe.train.epochs:
        return None
    return {
        "step": saved.step if saved else 0,
        "epochs_before": started.train.epochs,
        "epochs": recipe.train.epochs,
    }


def weights_metadata(
    recipe: Recipe,
    info: DataInfo,
    device: torch.device,
    step: int,
    weights: str | None = None,
) -> dict[str, Any]:
    """What a weights file says of itself: everything needed to rebuild and judge the model.

    `weights` says which of a run's weights they are, as `best averaged`: a file that was moved or
    renamed still knows.
    """
    return {
        "recipe": recipe.resolved(),
        "data": info.to_json(),
        "provenance": environment(device) | {"step": step, "weights": weights},
    }
