"""What a finished training leaves: measurements on test images, pictures and `result.json`."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paradise_cli.core.storage import file_digest, write_json
from paradise_cli.core.units import counted
from paradise_cli.data import Split
from paradise_cli.evaluation.evaluate import Evaluation, Measurement, measure
from paradise_cli.figures.beside import drawing
from paradise_cli.runs.prepare import Training
from paradise_cli.runs.weights import Weights, judged_on, weights_of
from paradise_cli.training.alarms import Alarm
from paradise_cli.training.checkpoint import State
from paradise_cli.training.loop import Reporter


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves: its folder, its weights files and what they were judged on,
    the alarms it raised, and its measurement and pictures, if any.

    What is measured are the last plain weights, on `split`: test images, or where there are none
    the validation images, which chose none but the best weights.
    """

    folder: Path
    evaluation: Evaluation | None
    pictures: tuple[Path, ...]
    weights: tuple[Weights, ...] = ()
    judged_on: dict[str, Any] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    split: str | None = None

    def measured(self) -> dict[str, Any]:
        """The measurement under the name of its split, and null under the other's."""
        return _by_split(self.evaluation, self.split)

    def __repr__(self) -> str:
        # The pictures lie in the folder: their paths would be most of the line.
        measured = self.evaluation or "no measurement"
        return f"Trained({self.folder}, {counted(len(self.pictures), 'picture')}, {measured})"


def finish(training: Training, state: State, report: Reporter) -> Trained:
    """Evaluate on images that were not trained on, write the result, and draw the pictures."""
    folder, data = training.folder, training.data
    splits = {"test": data.test, "validation": data.validation}
    name, split = next(((n, each) for n, each in splits.items() if each), (None, None))
    measured = None
    if name is not None and split is not None:
        measured = _measure(training, split, name, report)
    else:
        # A training that ends without a number must not look like one that went wrong.
        report.say(
            f"no measurement, as {data.info.label} has no images that were not trained on; to"
            f" measure on others: paradise evaluate {shlex.quote(str(folder.path))} --data DATA"
        )
    evaluation = None if measured is None else measured.evaluation
    weights = weights_of(training, state)
    judged = judged_on(training)
    raised = [Alarm(**each) for record in folder.records() for each in record.get("alarms", [])]
    # In one file and sorted, so that the results of two runs can be compared line by line.
    result = {
        "name": training.recipe.name,
        "recipe_sha256": file_digest(folder.recipe),
        "data": data.info.label,
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "training": training.environment(),
        "weights": [each.to_json() for each in weights],
        "judged_on": judged,
        "alarms": [each.to_json() for each in raised],
        **_by_split(evaluation, name),
    }
    if extensions := folder.extensions():
        result["extended"] = extensions
    pictures = _draw(training, measured, split, report)
    # Last: a sweep does nothing more for a run that has it, and a killed one must get its pictures.
    write_json(folder.result, result)
    return Trained(folder.path, evaluation, pictures, weights, judged, tuple(raised), name)


def _by_split(evaluation: Evaluation | None, split: str | None) -> dict[str, Any]:
    found = evaluation and evaluation.to_json()
    return {name: found if name == split else None for name in ("test", "validation")}


def _measure(training: Training, split: Split, name: str, report: Reporter) -> Measurement:
    """The finished model on a split."""
    info, model = training.data.info, training.model
    total = len(split) * (1 + model.stochastic)  # once through the model, once for the rate
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        report.evaluation(done, total)

    return measure(
        model,
        training.recipe,
        info,
        split,
        device=training.device,
        data=f"{info.label}, {name}",
        progress=progress,
    )


def _draw(
    training: Training, measured: Measurement | None, split: Split | None, report: Reporter
) -> tuple[Path, ...]:
    """The pictures of the run and of what was measured on a split, if there is something."""
    recipe, folder, info = training.recipe, training.folder, training.data.info
    drawn = []
    with drawing(folder.curves, report.say):
        # Loads matplotlib, which a training needs only at its end.
        from paradise_cli.runs.pictures import draw_curves

        if draw_curves(folder.records(), folder.curves, recipe.name):
            drawn.append(folder.curves)
    if measured is None or split is None:
        return tuple(drawn)
    title = measured.evaluation.title(recipe)
    # One table of answers: of the first classifier, by whose accuracy the title speaks.
    supervised = [score for score in measured.scores if score.task.distortion.supervised]
    if measured.evaluation.classification:
        classes = info.targets[supervised[0].task.target].classes
        with drawing(folder.confusion, report.say):
            from paradise_cli.runs.pictures import draw_confusion

            draw_confusion(supervised[0].confusion(), classes, folder.confusion, title)
            drawn.append(folder.confusion)
    if recipe.model.latent_dim == 2 and recipe.model.stochastic:
        with drawing(folder.posteriors, report.say):
            from paradise_cli.figures.posterior import draw_posteriors

            draw_posteriors(measured.posterior, split.labels, info, folder.posteriors, title)
            drawn.append(folder.posteriors)
    return tuple(drawn)
