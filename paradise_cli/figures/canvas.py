"""From a figure to a file, and from images and names to what fits in one."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.storage import publish

DPI = 150

Given = ParamSpec("Given")
Drawn = TypeVar("Drawn")


def own_style(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """A function that draws in matplotlib's own style, whatever the user or a folder asks for."""

    @wraps(draw)
    def drawn(*args: Given.args, **options: Given.kwargs) -> Drawn:
        # matplotlib reads a matplotlibrc of the current folder: one that asks for TeX stops it.
        with style.context("default"):
            return draw(*args, **options)

    return drawn


def save(figure: Figure, path: Path) -> None:
    """Publish a figure as PNG; the same figure gives the same bytes.

    Raises ParadiseError as `publish`.
    """
    # On a canvas of its own: pyplot would keep every figure, and want a display.
    with publish(path) as temporary:
        FigureCanvasAgg(figure)
        # Without the library's version and the time, which matplotlib would write.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def pixels(images: Tensor) -> NDArray[np.float32]:
    """Images [N, 1 or 3, H, W] in [0, 1] as [N, H, W] or [N, H, W, 3]."""
    array: NDArray[np.float32] = images.float().clamp(0, 1).movedim(1, 3).cpu().numpy()
    return array[..., 0] if array.shape[3] == 1 else array


def shortened(name: str, most: int = 18) -> str:
    """A name cut to `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
