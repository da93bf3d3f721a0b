"""From a figure to a file, and from images and names to what fits in one."""

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
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
    """A function that draws in matplotlib's own style, whatever the user or a folder asks for, and
    in which a dollar sign, as in the name of a file, begins no formula.
    """

    @wraps(draw)
    def drawn(*args: Given.args, **options: Given.kwargs) -> Drawn:
        # matplotlib reads a matplotlibrc of the current folder: one that asks for TeX stops it.
        with style.context(["default", {"text.parse_math": False}]):
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


def paths_apart(names: Sequence[str], most: int = 18) -> list[str]:
    """As `told_apart`, without the folders that all of the paths begin with."""
    parts = [name.rstrip("/").split("/") for name in names]
    shared = min(map(len, parts)) - 1
    while len({tuple(each[:shared]) for each in parts}) > 1:
        shared -= 1
    return told_apart(["/".join(each[shared:]) for each in parts], most)


def told_apart(names: Sequence[str], most: int = 18) -> list[str]:
    """Names cut to `most` characters where they are alike; those that still are have numbers."""

    def cut(head: int) -> list[str]:
        """Each with so many letters of its beginning, and as many of its end as then fit."""
        tail = most - 1 - head
        return [
            name if len(name) <= most else f"{name[:head]}…{name[len(name) - tail :]}"
            for name in names
        ]

    # The beginning is what people look at first, where it is enough.
    return numbered(max(map(cut, (most - 1, 0, most // 2)), key=lambda each: len(set(each))))


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with numbers where several are alike; no two of the result are."""
    taken = {name for name in names if names.count(name) == 1}
    found = []
    for name in names:
        free = (f"{name} ({number})" for number in count(1))
        own = name if names.count(name) == 1 else next(each for each in free if each not in taken)
        taken.add(own)
        found.append(own)
    return found
