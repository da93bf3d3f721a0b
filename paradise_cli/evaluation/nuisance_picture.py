"""A picture of what nuisance does to a model: each sampler a row, each measure a panel."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paradise_cli.core.proportions import Proportion
from paradise_cli.evaluation.nuisance import Mean, Nuisance, NuisanceRow
from paradise_cli.figures.canvas import own_style, save

# One hue, as strengths are ordered; the dark dot of a row is the one to look for.
WEAK_TO_STRONG = ("#9ecae1", "#4292c6", "#08306b")
ROW, PANEL, MARGIN = 0.42, 3.1, 1.5  # inches
Measure = Callable[[NuisanceRow], Proportion | Mean | None]


@own_style
def draw_nuisance(found: Nuisance, path: Path) -> None:
    """Draw flips, posterior shift and accuracy under each sampler, and publish a PNG.

    Three dots a row, from weak to strong, with their 95% intervals; a measure that the model or
    the data lack has no panel.
    """
    measures: list[tuple[str, float, Measure]] = [
        ("flip rate, %", 100, lambda row: row.flip_rate),
        ("posterior shift, std of mu", 1, lambda row: row.shift),
        ("accuracy, %", 100, lambda row: row.accuracy),
    ]
    measures = [each for each in measures if each[2](found.rows[0]) is not None]
    samplers = _sorted(found)
    # Side by side, as a flip is explained by a shift, and a fall of accuracy by flips.
    figure = Figure(
        figsize=(MARGIN + PANEL * len(measures), MARGIN + ROW * len(samplers)),
        facecolor="white",
        layout="constrained",
    )
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, (title, unit, measure) in zip(panels, measures, strict=True):
        _panel(axes, samplers, unit, measure)
        axes.set_xlabel(title)
        # Only accuracy has a value without any nuisance: the others are 0 there.
        if title.startswith("accuracy") and found.accuracy is not None:
            axes.axvline(100 * found.accuracy.value, color="#999999", linestyle=":", linewidth=1)
    panels[0].set_yticks(range(len(samplers)), [name.replace("_", " ") for name, _ in samplers])
    panels[0].invert_yaxis()
    title = (
        f"{found.data}, n = {found.n:,}; from light to dark: weak, medium, strong; bars: 95%"
        + ("; dotted: images as they are" if found.accuracy is not None else "")
    )
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save(figure, path)


def _sorted(found: Nuisance) -> list[tuple[str, list[NuisanceRow]]]:
    """Each sampler's rows, from weak to strong; the one that harms most stands first."""
    rows: dict[str, list[NuisanceRow]] = {}
    for row in found.rows:
        rows.setdefault(row.sampler, []).append(row)

    def harm(item: tuple[str, list[NuisanceRow]]) -> float:
        strongest = item[1][-1]
        return strongest.shift.value if strongest.flip_rate is None else strongest.flip_rate.value

    return sorted(rows.items(), key=harm, reverse=True)


def _panel(
    axes: Axes, samplers: Sequence[tuple[str, list[NuisanceRow]]], unit: float, measure: Measure
) -> None:
    for place, (_, rows) in enumerate(samplers):
        spans = [(number, measure(row)) for number, row in enumerate(rows)]
        shown = [(number, span) for number, span in spans if span is not None]
        axes.plot(
            [unit * span.value for _, span in shown], [place] * len(shown), color="#cccccc",
            linewidth=1.2, zorder=1,
        )  # fmt: skip
        for number, span in shown:
            # One by one: a call for all would give them one colour.
            bars = [[unit * (span.value - span.low)], [unit * (span.high - span.value)]]
            axes.errorbar(
                unit * span.value, place, xerr=bars, fmt="o", markersize=5, capsize=2,
                elinewidth=1, color=WEAK_TO_STRONG[number],
            )  # fmt: skip
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
