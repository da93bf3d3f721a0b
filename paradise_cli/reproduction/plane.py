"""Rate and distortion of several models in one plane, with intervals on both axes."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import NORMAL_95
from paradise_cli.core.storage import publish_text
from paradise_cli.core.units import BITS
from paradise_cli.evaluation.evaluate import Evaluation
from paradise_cli.figures.canvas import own_style, paths_apart, save

COLOURS = ("#3b6fb6", "#c9403f", "#3f8f5b", "#8a5fb0", "#b07d2b", "#4f9da6")
WIDEST = 2.0  # times the largest rate: an upper end beyond runs out of the picture
INK = "#5f6368"


@dataclass(frozen=True)
class Place:
    """Where a model lies: its distortion at sampled z, and I(X;Z) in nats, each with 95% ends.

    `rate` is I_N, between z and which of the n images was encoded: `cap` where that can be no
    larger.
    """

    model: str
    n: int
    distortion: float
    distortion_low: float
    distortion_high: float
    rate: float
    rate_low: float
    rate_high: float
    cap: float | None


@dataclass(frozen=True)
class Plane:
    """The places of all models that have a rate, on the same images; and those without one."""

    unit: str
    places: tuple[Place, ...]
    without: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Publish a row for each model as a CSV."""
        with publish_text(path) as file:
            table = csv.DictWriter(file, list(Place.__annotations__), lineterminator="\n")
            table.writeheader()
            table.writerows(asdict(each) for each in self.places)

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "unit": self.unit,
            "models": [asdict(each) for each in self.places],
            "without_a_rate": list(self.without),
        }


def plane_of(measured: Sequence[tuple[str, Evaluation]]) -> Plane:
    """The places of evaluated models, by name, by the distortion of the first task of each.

    Raises ParadiseError where they have no distortion in one unit, or none has a rate.
    """
    units = {each.distortion[0].unit for _, each in measured if each.distortion}
    if len(units) != 1 or not all(each.distortion for _, each in measured):
        found = ", ".join(sorted(units)) or "none"
        raise ParadiseError(f"the models are judged in other units ({found}): one plane has one")
    places = [_place(name, each) for name, each in measured if each.rate is not None]
    if not places:
        reasons = dict.fromkeys(each.rate_note or "not measured" for _, each in measured)
        raise ParadiseError(f"none of the models has a rate: {'; '.join(reasons)}")
    without = tuple(name for name, each in measured if each.rate is None)
    return Plane(str(units.pop()), tuple(places), without)


def _place(name: str, found: Evaluation) -> Place:
    first, rate = found.distortion[0], found.rate
    assert rate is not None
    error = NORMAL_95 * (first.sampled_error or 0.0)
    ends = rate.population
    return Place(
        model=name,
        n=found.n,
        distortion=first.sampled,
        distortion_low=first.sampled - error,
        distortion_high=first.sampled + error,
        rate=rate.exact.nats,
        rate_low=ends.lower,
        rate_high=ends.upper,
        cap=ends.cap,
    )


def _bars(low: float, value: float, high: float) -> list[list[float]]:
    """As matplotlib takes them; a value may lie outside of what is certified of the population."""
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


@own_style
def draw_plane(found: Plane, path: Path, title: str) -> None:
    """Draw each model at its distortion and rate, with both intervals, and publish a PNG."""
    figure = Figure(figsize=(7.2, 5.2), facecolor="white", layout="constrained")
    size = min(11.0, 950 / max(len(title), 1))
    figure.suptitle(title, fontsize=size, x=0.01, ha="left")
    axes = figure.subplots()
    names = paths_apart([each.model for each in found.places], 32)
    for number, (name, each) in enumerate(zip(names, found.places, strict=True)):
        axes.errorbar(
            each.distortion, each.rate, fmt="o", markersize=5, elinewidth=1.2, capsize=3,
            xerr=_bars(each.distortion_low, each.distortion, each.distortion_high),
            yerr=_bars(each.rate_low, each.rate, each.rate_high),
            color=COLOURS[number % len(COLOURS)],
            label=name,
        )  # fmt: skip
    # An upper end that says little runs out of the plane instead of flattening it.
    tallest = max(each.rate for each in found.places)
    top = min(axes.get_ylim()[1], WIDEST * max(tallest, 0.05))
    axes.set_ylim(0, top)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    axes.set_xlabel(f"distortion of z drawn, {found.unit}, ± 95%")
    axes.set_ylabel("rate, nats; bars: certified I(X;Z)")
    bits = axes.twinx()
    bits.set_ylim(0, top * BITS)
    bits.set_ylabel("bits")
    for part in (axes, bits):
        part.tick_params(labelsize=8, colors=INK, length=3)
        part.spines[["top"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False)
    save(figure, path)
