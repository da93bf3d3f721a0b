"""Which weights a training leaves: last and best, plain and averaged, and what each is worth."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paradise_cli.evaluation.validation import metrics_of
from paradise_cli.runs.prepare import Training
from paradise_cli.training.checkpoint import State


@dataclass(frozen=True)
class Weights:
    """A weights file of a run: which weights it holds, and their metrics on validation images.

    `name` is such as `best averaged`; `step` is how many steps they were trained for.
    """

    name: str
    file: Path
    step: int
    validation: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "weights": self.name,
            "file": str(self.file),
            "step": self.step,
            # A network whose loss was finite may answer by what is no number all the same.
            "validation": {n: v if math.isfinite(v) else None for n, v in self.validation.items()},
        }


def judged_on(training: Training) -> dict[str, Any]:
    """On what the weights were judged and the best of them chosen; empty without such images.

    With labels, also how many of the images have that of the task that judges.
    """
    split, chosen = training.data.validation, training.recipe.train.validate
    if split is None:
        return {}
    found: dict[str, Any] = {"split": "validation", "n": len(split)}
    task = training.objective.judged
    if task is None:
        return found
    # Of the others it is not known whether they are classified rightly.
    found["labelled"] = int((split.labels[:, task.target] >= 0).sum())
    if chosen is not None and found["labelled"]:
        attacked = {"n": min(chosen.images, found["labelled"])}
        found["attack"] = chosen.attack.model_dump(mode="json") | attacked
    return found


def weights_of(training: Training, state: State) -> tuple[Weights, ...]:
    """What a finished training leaves; the best are chosen by their score on validation images."""
    folder = training.folder
    # What an epoch measured stands in its record, and need not be measured again.
    validations = {record["step"]: record.get("validation", {}) for record in folder.records()}
    found = []
    for (moment, kind), path in folder.weights.items():
        if (moment == "best" and kind not in state.best) or kind not in training.models:
            continue
        step = state.best[kind].step if moment == "best" else state.step
        metrics = metrics_of(kind, validations.get(step, {}))
        found.append(Weights(f"{moment} {kind}", path.relative_to(folder.path), step, metrics))
    return tuple(found)
