"""`paradise train`: a recipe becomes a run folder, from its beginning or from where it stopped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paradise_cli.build import (
    build_data,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
)
from paradise_cli.data import DataBundle, DataInfo
from paradise_cli.evaluation.evaluate import Evaluation, evaluate, posteriors, validation_of
from paradise_cli.inference.loading import init_from
from paradise_cli.models import StochasticEncoder
from paradise_cli.objective.objective import Objective
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.core.storage import write_json
from paradise_cli.training.checkpoint import Checkpoints, State
from paradise_cli.core.machine import choose_device, environment, full_fp32
from paradise_cli.core.processes import stop_on_signal
from paradise_cli.training.loop import Fit, Reporter
from paradise_cli.training.run_folder import RunFolder, free_name, latest_name
from paradise_cli.models.weights import save_model


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves: its folder, its test results and its picture, where there
    are any.
    """

    folder: Path
    evaluation: Evaluation | None
    picture: Path | None


def train(
    recipe: Recipe, *, out: Path | None = None, device: str = "auto", fresh: bool = False, report: Reporter
) -> Trained:
    """Train a recipe in its run folder, going on from the newest checkpoint there.

    The folder is `out`, else the newest `runs/<name>[-N]`; `fresh` takes a new one beside it.
    Raises ParadiseError or UsageError for a folder in use, a changed recipe or missing data,
    Interrupted after a signal.
    """
    target = choose_device(device)
    path = out or Path("runs") / recipe.name
    if fresh:
        path = free_name(path)
    elif out is None:
        path = latest_name(path)
    folder = RunFolder(path)
    with folder.locked(), stop_on_signal() as stop, full_fp32(target):
        # read as a recipe, so that a default of a newer version is no change
        if folder.recipe.exists():
            folder.refuse_change(load_recipe(str(folder.recipe)).recipe.resolved(), recipe.resolved())
        data = build_data(recipe)
        for line in data.notes:
            report.say(f"note: {line}")
        model = build_model(recipe, data.info).to(target)
        if recipe.train.init is not None:
            init_from(model, recipe.train.init)
        objective = build_objective(recipe, data.info).to(target)
        moved = folder.begin(recipe.resolved(), environment(target))
        if moved:
            report.say(f"warning: {moved}")
        state = _fit(recipe, folder, data, model, objective, target, report, stop)
        metadata = weights_metadata(recipe, data.info, target, state.step)
        save_model(folder.model, model, metadata)
        return _finish(recipe, folder, data, model, target, state, report)


def _fit(
    recipe: Recipe,
    folder: RunFolder,
    data: DataBundle,
    model: StochasticEncoder,
    objective: Objective,
    device: torch.device,
    report: Reporter,
    stop: Callable[[], bool],
) -> State:
    def keep_best(state: State) -> None:
        save_model(folder.best, model, weights_metadata(recipe, data.info, device, state.step))

    plan = build_plan(recipe, model, device)
    checkpoints = Checkpoints(folder.checkpoints, {"recipe": recipe.name})
    step = checkpoints.newest_step()
    resumed = f", going on from step {step:,}" if step else ""
    report.say(f"{folder.path}: {device}, {plan.precision}{resumed}")
    validate = None
    if data.validation is not None:
        validate = validation_of(model, objective, data.validation, device)
    fit = Fit(
        model,
        objective,
        build_optimizer(recipe, model.parameters(), objective.parameters()),
        plan,
        device,
        _Recorder(folder, report),
        checkpoints,
        validate=validate,
        keep_best=keep_best,
        stop=stop,
    )
    folder.truncate_metrics(step)
    return fit.run(data.train)


def _finish(
    recipe: Recipe,
    folder: RunFolder,
    data: DataBundle,
    model: StochasticEncoder,
    device: torch.device,
    state: State,
    report: Reporter,
) -> Trained:
    """Evaluate on test data, draw 2-D latents, and write the result."""
    evaluation = picture = None
    if data.test is not None:
        label, total, done = f"{data.info.label}, test", len(data.test) * (1 + model.stochastic), 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            report.evaluation(done, total)

        evaluation = evaluate(
            model, recipe, data.info, data.test, device=device, data=label, progress=progress
        )
        if recipe.model.latent_dim == 2 and recipe.model.stochastic:
            from paradise_cli.figures.posterior import draw_posteriors

            picture = folder.picture
            posterior = posteriors(model, data.test, device)
            draw_posteriors(posterior, data.test.labels, data.info, picture, evaluation.title(recipe))
    best = {"step": state.best_step, "score": state.best_score} if state.best_score is not None else None
    write_json(
        folder.result,
        {
            "name": recipe.name,
            "data": data.info.label,
            "steps": state.step,
            "seconds": round(state.seconds, 3),
            "parameters": sum(p.numel() for p in model.parameters()),
            "best_on_validation": best,
            "test": evaluation and evaluation.to_json(),
        },
    )
    return Trained(folder.path, evaluation, picture)


class _Recorder(Reporter):
    """Writes each epoch to `metrics.jsonl` and tells the display."""

    def __init__(self, folder: RunFolder, display: Reporter) -> None:
        self._folder, self._display = folder, display

    def progress(self, step: int, total: int, terms: dict[str, float]) -> None:
        self._display.progress(step, total, terms)

    def epoch(self, record: dict[str, Any]) -> None:
        self._folder.append_metrics(record)
        self._display.epoch(record)


def weights_metadata(recipe: Recipe, info: DataInfo, device: torch.device, step: int) -> dict[str, Any]:
    """What a weights file says of itself: everything needed to rebuild and judge the model."""
    return {
        "recipe": recipe.resolved(),
        "data": info.to_json(),
        "provenance": environment(device) | {"step": step},
    }
