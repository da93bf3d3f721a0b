"""Pictures of a training: its curves, and which classes were answered for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.figures.canvas import own_style, save, told_apart

PANELS = {
    "loss": "loss",
    "distortion": "distortion",
    "rate": "rate, nats",
    "accuracy": "accuracy",
    "robust": "accuracy under attack",
}
"""What is drawn, in this order, where there is anything of it, and how its axis is called."""

COLOURS = {"training": "#3b6fb6", "validation": "#e8833a"}
LINES = ("-", "--", ":", "-.")
INK = "#5f6368"
FEW_EPOCHS = 30
NAMED_CLASSES = 20  # names of more would overlap
COUNTED_CLASSES = 12  # numbers of more would not fit into their cells


@own_style
def draw_curves(records: Sequence[dict[str, Any]], path: Path, title: str) -> bool:
    """Draw what `metrics.jsonl` says of each epoch; nothing, and False, where there is no epoch.

    One panel each for loss, distortion, rate and accuracy, over epochs: in training, and on
    validation data where there are any. Publishes a PNG with the same bytes for the same input.
    """
    panels = {name: curves for name in PANELS if (curves := _curves(records, name))}
    if not panels:
        return False
    figure = Figure(figsize=(3.4 * len(panels) + 0.4, 3.4), facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    epochs = [record["epoch"] for record in records]
    marker = "." if len(epochs) <= FEW_EPOCHS else None  # a line of one point would not be seen
    for axes, (name, curves) in zip(grid, panels.items(), strict=True):
        for label, values in curves.items():
            part = label.split()[0]
            # Colours say training or validation, so tasks are told apart by their lines.
            style = LINES[[other for other in curves if other.split()[0] == part].index(label) % 4]
            axes.plot(
                epochs, values, style,
                color=COLOURS[part], linewidth=1.4, label=label, marker=marker,
            )  # fmt: skip
        axes.set_title(PANELS[name], fontsize=10, loc="left", color=INK)
        axes.set_xlabel("epoch", fontsize=9)
        axes.legend(fontsize=7, frameon=False)
        _quiet(axes)
    save(figure, path)
    return True


def _curves(records: Sequence[dict[str, Any]], panel: str) -> dict[str, list[float]]:
    """Each curve of a panel, NaN in epochs that lack it: `distortion/a` belongs to `distortion`."""
    found: dict[str, list[float]] = {}
    for number, record in enumerate(records):
        for part, label in (("train", "training"), ("validation", "validation")):
            for name, value in record.get(part, {}).items():
                kind, _, task = name.partition("/")
                if kind == panel:
                    curve = found.setdefault(f"{label} {task}".strip(), [np.nan] * len(records))
                    curve[number] = value
    # With one task the distortion and its only part are one curve.
    if "training" in found and len([name for name in found if name.startswith("training ")]) == 1:
        del found["training"]
    return found


@own_style
def draw_confusion(table: Tensor, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw how often each class, by row, was answered for each: int64 [true, answered].

    Colours show shares of the row, so that rare classes are seen. Publishes a PNG with the same
    bytes for the same input.
    """
    counts: NDArray[np.int64] = table.cpu().numpy()
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    figure = Figure(figsize=(7.2, 6.8), facecolor="white", layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    if len(classes) <= NAMED_CLASSES:
        names = told_apart(classes)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= COUNTED_CLASSES:
        for row, column in np.argwhere(counts):
            count = counts[row, column]
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    # From the edge of the picture, and smaller where it is long: the numbers stand at its end.
    size = min(10.0, 950 / max(len(title), 1))
    figure.suptitle(title, fontsize=size, x=0.01, ha="left")
    _quiet(axes)
    save(figure, path)


def _quiet(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for spine in axes.spines.values():
        spine.set_color("#dadce0")
