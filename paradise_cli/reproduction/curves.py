"""Distortion and matching of trainings, epoch by epoch (paper Fig. 4)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import publish_text
from paradise_cli.figures.canvas import own_style, paths_apart, save
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.recipe.tasks import named_tasks
from paradise_cli.training.run_folder import RunFolder

TIMES = 1000
"""How much larger matching is drawn, as in the paper."""
COLOURS = ("#3b6fb6", "#c9403f", "#3f8f5b", "#8a5fb0", "#b07d2b", "#4f9da6")
MOST = len(COLOURS)
INK = "#5f6368"
FEW_EPOCHS = 30
UNITS = {"cross_entropy": "cross-entropy, nats"}


@dataclass(frozen=True)
class Curves:
    """Of each run by name, per epoch: the distortion and the matching term of its training.

    `distortion` says what is drawn of it; matching is None in runs that match nothing.
    """

    distortion: str
    epochs: Mapping[str, Sequence[int]]
    distortions: Mapping[str, Sequence[float]]
    matchings: Mapping[str, Sequence[float] | None]

    def save(self, path: Path) -> None:
        """Publish run, epoch, distortion and matching as a CSV."""
        with publish_text(path) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["run", "epoch", "distortion", "matching"])
            for run, epochs in self.epochs.items():
                matching = self.matchings[run]
                for place, epoch in enumerate(epochs):
                    term = "" if matching is None else matching[place]
                    table.writerow([run, epoch, self.distortions[run][place], term])

    def to_json(self) -> dict[str, Any]:
        """The last epoch of each run."""
        last = {}
        for run, epochs in self.epochs.items():
            matching = self.matchings[run]
            last[run] = {
                "epochs": len(epochs),
                "distortion": self.distortions[run][-1],
                "matching": None if matching is None else matching[-1],
            }
        return {"distortion": self.distortion, "runs": last}


def curves(runs: Mapping[str, RunFolder]) -> Curves:
    """What `metrics.jsonl` of each run folder holds.

    Raises ParadiseError for a run without an epoch, and for distortions in several units.
    """
    records = {name: run.records() for name, run in runs.items()}
    for name, found in records.items():
        if not found:
            raise ParadiseError(f"{runs[name].path}: no epoch has ended yet: there is no curve")
    kinds = {_distortion(run) for run in runs.values()}
    if len(kinds) > 1:
        units = "; ".join(sorted(kinds))
        raise ParadiseError(f"the runs have distortions in other units ({units}): draw them apart")
    return Curves(
        distortion=kinds.pop(),
        epochs={name: [each["epoch"] for each in found] for name, found in records.items()},
        distortions={
            name: [each["train"]["distortion"] for each in found] for name, found in records.items()
        },
        matchings={name: _matching(found) for name, found in records.items()},
    )


def _distortion(run: RunFolder) -> str:
    """What the distortion of a run is called on its axis."""
    tasks = named_tasks(load_recipe(str(run.recipe)).recipe)
    names = {task.distortion.name for task in tasks.values()}
    only = names.pop() if len(names) == 1 and len(tasks) == 1 else "distortion"
    return UNITS.get(only, only.replace("_", " "))


def _matching(records: Sequence[dict[str, Any]]) -> list[float] | None:
    values = [each["train"].get("matching") for each in records]
    return None if None in values else [float(value) for value in values if value is not None]


@own_style
def draw_curves(found: Curves, path: Path, title: str) -> None:
    """Draw the distortion over epochs and, where any run has it, 1,000 times the matching term.

    Publishes a PNG with the same bytes for the same input.
    """
    panels: list[tuple[str, float, Mapping[str, Sequence[float] | None]]] = [
        (found.distortion, 1, found.distortions)
    ]
    if any(found.matchings.values()):
        panels.append((f"matching, times {TIMES:,}", TIMES, found.matchings))
    figure = Figure(figsize=(4.0 * len(panels) + 0.6, 3.6), facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    names = paths_apart(list(found.epochs), 32)
    for axes, (label, times, values) in zip(grid, panels, strict=True):
        runs = zip(COLOURS, names, found.epochs.items(), strict=False)
        for colour, name, (run, epochs) in runs:
            if (curve := values[run]) is not None:
                axes.plot(
                    epochs, [times * value for value in curve], color=colour, linewidth=1.4,
                    marker="." if len(epochs) <= FEW_EPOCHS else None,
                    label=name,
                )  # fmt: skip
        axes.set_title(label, fontsize=10, loc="left", color=INK)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8, colors=INK, length=3)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].legend(fontsize=8, frameon=False)
    save(figure, path)
