"""From a figure to a file."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paradise_cli.storage import publish

DPI = 150


def save(figure: Figure, path: Path) -> None:
    """Publish a figure as PNG; the same figure gives the same bytes. Raises ParadiseError as `publish`."""
    with publish(path) as temporary:
        FigureCanvasAgg(figure)
        # Without the library's version and the time, which matplotlib would write.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
