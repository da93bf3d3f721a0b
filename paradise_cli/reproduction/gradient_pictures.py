"""Gradients in the pixels as images, and how alike those of two models are (paper Fig. 7)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from paradise_cli.core.errors import ParadiseError
from paradise_cli.figures.canvas import own_style, paths_apart, save
from paradise_cli.figures.captioned import Block, draw_captioned
from paradise_cli.reproduction.input_gradients import Gradients, Orthogonality, visible

INK, POINT, LEVEL = "#202124", "#3b6fb6", "#e8eaed"
WIDTH, ROW, MARGIN = 7.2, 0.46, 1.5  # inches
FEWEST = 4  # images, over which a title fits


def draw_gradients(found: Gradients, names: Sequence[str], path: Path, title: str) -> None:
    """Draw images, `names` of their classes below, and each model's gradients under them.

    Publishes a PNG with the same bytes for the same input. Raises ParadiseError for images that are
    neither grey nor RGB.
    """
    if found.images.shape[1] not in (1, 3):
        channels = found.images.shape[1]
        raise ParadiseError(f"images of {channels} channels cannot be drawn: 1 or 3 are needed")
    plain = [False] * len(names)
    blocks = [Block("Images", found.images, names, plain)]
    blank = [""] * len(names)
    for model, gradient in found.by_model.items():
        blocks.append(Block(model, visible(gradient), blank, plain))
    # Over one or two images there is no room for it.
    draw_captioned(blocks, path, title if len(names) >= FEWEST else "", columns=len(names))


@own_style
def draw_orthogonality(found: Orthogonality, path: Path, title: str) -> None:
    """Draw the cosines of every two models, with their spread over images beside that of chance.

    Publishes a PNG with the same bytes for the same input.
    """
    figure = Figure(
        figsize=(WIDTH, MARGIN + ROW * len(found.pairs)), facecolor="white", layout="constrained"
    )
    size = min(11.0, 132 * WIDTH / max(len(title), 1))
    figure.suptitle(title, fontsize=size, x=0.01, ha="left")
    axes = figure.subplots()
    chance = found.random_deviation
    axes.axvspan(-chance, chance, color=LEVEL, label="random directions, ± their deviation")
    axes.axvline(0, color="#9aa0a6", linewidth=0.8)
    places = range(len(found.pairs))
    axes.errorbar(
        [each.cosine.value for each in found.pairs], places,
        xerr=[each.deviation for each in found.pairs], fmt="o", color=POINT, markersize=5,
        elinewidth=1.2, capsize=3, label="mean cosine, ± deviation over images",
    )  # fmt: skip
    models = list(dict.fromkeys(name for each in found.pairs for name in each.models))
    short = dict(zip(models, paths_apart(models, 24), strict=True))
    names = [" and ".join(short[name] for name in each.models) for each in found.pairs]
    axes.set_yticks(places, names, fontsize=9, color=INK)
    axes.set_ylim(len(found.pairs) - 0.5, -0.5)
    ends = [abs(each.cosine.value) + each.deviation for each in found.pairs]
    widest = max([2 * chance, *(end for end in ends if np.isfinite(end))])
    axes.set_xlim(-1.1 * widest, 1.1 * widest)
    axes.set_xlabel("cosine of the gradients at one image", fontsize=9)
    axes.tick_params(axis="x", labelsize=8, colors="#5f6368", length=3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", fontsize=8.5, frameon=False)
    save(figure, path)
