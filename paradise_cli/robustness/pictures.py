"""What attacks left of a classifier's accuracy, in pictures that can be read on a phone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from paradise_cli.attacks.report import CLEAN, CUT_SHORT, AttackReport, StageRow
from paradise_cli.core.proportions import Proportion
from paradise_cli.figures.canvas import own_style, paths_apart, save, shortened
from paradise_cli.figures.captioned import Block, draw_captioned

WIDTH = 5.2  # inches: ten points stay legible where the picture is as wide as a phone
SHOWN = 4  # images of a kind
NAME = 32  # letters of the name of a file
LETTER = 0.018  # of a tick, in widths of the plane
ROW, LINE, FOOT = 0.46, 0.21, 0.6  # inches of a row, of a line of the legend, and of the axis
INK, SOFT = "#202124", "#5f6368"
# Blue, orange and grey differ in brightness too, so that they stay apart for every reader.
OWN, OTHER, REACHED, LIGHT = "#2f5f9e", "#e8a33a", "#9aa0a6", "#7fa9d6"
MARKERS = "osD^vP"


def white_box(report: AttackReport) -> tuple[str, Proportion] | None:
    """The strongest attack on the model itself: of the suite, or the audit's at the same eps."""
    # Transferred attacks are what it is compared with; targets reached are no accuracy.
    own = [stage for stage in report.stages if stage.source is None and not stage.reaches_target]
    if own:
        best = min(own, key=lambda stage: stage.share.value)
        return best.attack, best.share
    # After a suite of transferred attacks alone, the audit's is the only one there is.
    for eps, accuracy, n in report.audit.curve:
        if np.isclose(eps, report.settings.eps):
            return f"PGD on {n:,} images", Proportion.of(round(accuracy * n), n)
    return None


@own_style
def draw_accuracy(report: AttackReport, path: Path) -> None:
    """Publish a PNG of accuracy against eps, with intervals, and of the audit's own curve."""
    points = [(0.0, report.clean_accuracy), *report.curve]
    # The audit keeps shares: counts give them the interval that all others have.
    audited = [(eps, Proportion.of(round(share * n), n)) for eps, share, n in report.audit.curve]
    figure = Figure(figsize=(WIDTH, 3.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    # Drawn first, to lie below: it is of fewer images and one attack.
    if audited:
        n = max(n for _, _, n in report.audit.curve)
        _line(axes, audited, "s--", LIGHT, f"PGD alone, on {n:,} images (audit)")
    suite = f"suite {report.settings.suite}, on {len(report.rows):,} images"
    _line(axes, points, "o-", OWN, suite + _bound(report))
    _eps_axis(axes, report, [eps for eps, _ in (*points, *audited)])
    _share_axis(axes, "y", "accuracy, with 95% interval")
    _legend(figure, *axes.get_legend_handles_labels())
    save(figure, path)


@own_style
def draw_attacks(report: AttackReport, path: Path) -> None:
    """Publish a PNG of what each attack left, beside clean and robust accuracy."""
    names, sources = [], _short_sources(report)
    for stage in report.stages:
        # How often a target was reached is no accuracy, and bounds none.
        bound = "" if stage.reaches_target else _bound(report)
        origin = f" from {sources[stage.source]}" if stage.source else ""
        origin += CUT_SHORT if stage.cut_short else ""
        names.append(f"{shortened(stage.attack, 40)}{origin}: {stage.share.value:.1%}{bound}")
    figure, axes = _rows(names)
    # A colour in the legend only if some row has it.
    kinds = {}
    for row, stage in enumerate(report.stages):
        colour, label = _kind(stage)
        kinds[label] = colour
        share = stage.share
        axes.barh(row + 0.14, share.value, 0.4, color=colour, zorder=2)
        _interval(axes, row + 0.14, share, color=INK, linewidth=1.2, capsize=3)
    marks = [
        _mark(axes, report.clean_accuracy.value, "--", "clean: no attack"),
        _mark(
            axes, report.robust_accuracy.value, "-", f"robust: worst case of all{_bound(report)}"
        ),
    ]
    # One kind alone needs no key, where it is the usual one.
    colours = [Patch(color=colour, label=label) for label, colour in kinds.items()]
    handles = [*marks, *(colours if len(colours) > 1 or OWN not in kinds.values() else [])]
    _share_axis(axes, "x", "share of images, with 95% interval")
    _legend(figure, handles, [str(handle.get_label()) for handle in handles])
    save(figure, path)


@own_style
def draw_transfer(report: AttackReport, path: Path) -> bool:
    """Publish a PNG of accuracy under transferred attacks, and under the strongest on this model.

    Gives whether there was something to compare.
    """
    own = white_box(report)
    found = [(stage.attack, stage.source, stage.share) for stage in report.stages]
    attacks = list(dict.fromkeys(attack for attack, source, _ in found if source))
    sources = list(dict.fromkeys(source for _, source, _ in found if source))
    if own is None or not attacks:
        return False
    figure, axes = _rows([shortened(attack, 48) for attack in attacks])
    # Sources side by side on one row, so that their markers do not hide each other.
    spread = np.linspace(-0.16, 0.16, len(sources)) if len(sources) > 1 else [0.0]
    for attack, source, share in found:
        if source:
            place = sources.index(source)
            marker = MARKERS[place % len(MARKERS)]
            row = attacks.index(attack) + 0.14 + float(spread[place])
            _interval(
                axes, row, share, color=INK, linewidth=1.0,
                marker=marker, markersize=6, markerfacecolor=OTHER,
            )  # fmt: skip
    handles: list[Any] = []
    for place, source in enumerate(_short_sources(report).values()):
        handle = Line2D([], [], linestyle="", marker=MARKERS[place % len(MARKERS)], color=INK)
        handle.set(markerfacecolor=OTHER, label=f"made on {shortened(source, NAME)}")
        handles.append(handle)
    # A band rather than a marker: every row is compared with it.
    axes.axvspan(own[1].low, own[1].high, color=LIGHT, alpha=0.35, linewidth=0, zorder=0)
    label = f"made on this model: {shortened(own[0], NAME)}{_bound(report)}"
    handles.append(_mark(axes, own[1].value, "-", label, OWN))
    _share_axis(axes, "x", "accuracy, with 95% interval")
    _legend(figure, handles, [str(handle.get_label()) for handle in handles])
    save(figure, path)
    return True


def draw_images(
    report: AttackReport,
    images: Tensor,
    shown: Sequence[str],
    seen: Sequence[str],
    path: Path,
    size: Callable[[float], str],
) -> bool:
    """Draw a few images that were broken, by what and how, and a few that stand.

    Images are [n, C, H, W], as `report.rows` names them; `shown` is what is in them, `seen` the
    class that the model sees once they are attacked, and `size` words for a distance. Publishes a
    PNG, and tells whether there was something to draw.
    """
    broken = _spread([i for i, by in enumerate(report.broken_by) if by not in (None, CLEAN)])
    stand = _spread(report.standing.nonzero().flatten().tolist())
    if not (broken or stand) or images.shape[1] not in (1, 3):
        return False
    blocks = _attacked(report, images, shown, seen, broken, size) if broken else []
    if stand:
        names = [shown[i] for i in stand]
        blocks.append(
            Block("Read rightly whatever was tried", images[stand], names, [False] * len(stand))
        )
    draw_captioned(blocks, path, columns=SHOWN)
    return True


def _attacked(
    report: AttackReport,
    images: Tensor,
    shown: Sequence[str],
    seen: Sequence[str],
    rows: Sequence[int],
    size: Callable[[float], str],
) -> list[Block]:
    """These images as they are, as they were attacked, and the change made visible."""
    adversarial = report.adversarial[list(rows)]
    change = adversarial - images[list(rows)]
    # The largest change becomes black or white.
    times = 0.5 / max(float(change.abs().max()), 1e-6)
    plain, marked = [False] * len(rows), [True] * len(rows)
    clean = [shown[i] for i in rows]
    # The attack without its source, for whose name there is no room below an image.
    attacks = {stage.name: stage.attack for stage in report.stages}
    by = [report.broken_by[i] or "" for i in rows]
    misread = [f"{seen[i]}\n{attacks.get(name, name)}" for i, name in zip(rows, by, strict=True)]
    distances = [size(float(report.distance[i])) for i in rows]
    return [
        Block("As they are", images[list(rows)], clean, plain),
        Block("Attacked: read as", adversarial, misread, marked),
        Block(
            f"The change, {times:.0f} times as strong (grey: none)",
            0.5 + times * change,
            distances,
            plain,
        ),
    ]


def _bound(report: AttackReport) -> str:
    """What must stand beside a number that the audit found too high."""
    return f" ({report.bound})" if report.bound else ""


def _spread(places: Sequence[int]) -> list[int]:
    """A few of them, from all over."""
    # The first few would often be of one class, as many data sets are sorted.
    return list(places[:: max(1, len(places) // SHOWN)][:SHOWN])


def _line(
    axes: Axes, points: Sequence[tuple[float, Proportion]], form: str, colour: str, label: str
) -> None:
    shares = [share for _, share in points]
    down = [share.value - share.low for share in shares]
    up = [share.high - share.value for share in shares]
    axes.errorbar(
        [eps for eps, _ in points], [share.value for share in shares], yerr=[down, up],
        fmt=form, markersize=5, linewidth=1.5, elinewidth=1.1, capsize=3, color=colour, label=label,
    )  # fmt: skip


def _eps_axis(axes: Axes, report: AttackReport, levels: Sequence[float]) -> None:
    """Doublings of eps are equally far apart, and 0 is there."""
    # A logarithm has no place for 0, which is where accuracy starts: log(1 + eps / smallest) has.
    smallest, largest = min(eps for eps in levels if eps > 0), max(levels)

    def place(eps: Any) -> Any:
        return np.log2(1 + np.asarray(eps) / smallest)

    axes.set_xscale("function", functions=(place, lambda x: (2.0 ** np.asarray(x) - 1) * smallest))
    width = float(place(largest))
    axes.set_xlim((2 ** (-0.04 * width) - 1) * smallest, (2 ** (1.04 * width) - 1) * smallest)

    def words(eps: float) -> str:
        return report.settings.words_for(eps).removesuffix("/255")  # said below the axis

    def touch(a: float, b: float) -> bool:
        # Half of each, and a letter between them.
        letters = (len(words(a)) + len(words(b))) / 2 + 1
        return abs(float(place(a)) - float(place(b))) < letters * LETTER * width

    # The eps of the report first: of two ticks that would touch, the later one goes.
    ticks: list[float] = []
    for eps in dict.fromkeys((report.settings.eps, 0.0, largest, *levels)):
        if not any(touch(eps, tick) for tick in ticks):
            ticks.append(eps)
    axes.set_xticks(ticks, [words(eps) for eps in ticks])
    axes.minorticks_off()
    unit = (
        "change of a pixel, in 1/255"
        if report.settings.norm == "linf"
        else "Euclidean length of the change"
    )
    axes.set_xlabel(f"eps: largest {unit}", fontsize=10)


def _rows(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A plane with a row for each name, which stands above what will be drawn."""
    figure = Figure(
        figsize=(WIDTH, FOOT + ROW * len(names)), facecolor="white", layout="constrained"
    )
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(
            0.005, row - 0.24, name, fontsize=9.5, va="center", color=INK, zorder=4, bbox=box,
        )  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks([])
    return figure, axes


def _short_sources(report: AttackReport) -> dict[str, str]:
    """What each other classifier is called in a picture, by its name."""
    names = list(dict.fromkeys(stage.source for stage in report.stages if stage.source))
    return dict(zip(names, paths_apart(names, 32), strict=True)) if names else {}


def _kind(stage: StageRow) -> tuple[str, str]:
    if stage.reaches_target:
        return REACHED, "reached the class aimed at (low is good)"
    return (OTHER, "made on another model") if stage.source else (OWN, "made on this model")


def _interval(axes: Axes, row: float, share: Proportion, **look: Any) -> None:
    error = [[share.value - share.low], [share.high - share.value]]
    axes.errorbar(share.value, row, xerr=error, zorder=3, **look)


def _mark(
    axes: Axes, value: float, style: Literal["-", "--"], label: str, colour: str = INK
) -> Line2D:
    axes.axvline(value, linestyle=style, linewidth=1.4, color=colour, zorder=2.5)
    return Line2D([], [], linestyle=style, color=colour, label=f"{label}, {value:.1%}")


def _share_axis(axes: Axes, which: str, label: str) -> None:
    long = axes.xaxis if which == "x" else axes.yaxis
    # A hair beyond 1, so that a line at 100% is drawn whole.
    (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1.005)
    long.set_major_formatter(PercentFormatter(1.0))
    long.set_label_text(label, fontsize=10)
    axes.tick_params(labelsize=9.5, colors=SOFT)
    axes.grid(axis=which, color="#e8eaed", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the plane, where nothing can lie below it; the figure grows by it."""
    # Constrained layout would take the legend's height from the plane.
    figure.set_figheight(figure.get_figheight() + LINE * len(handles))
    figure.legend(
        handles, labels, loc="outside upper left", frameon=False, fontsize=9.5, borderaxespad=0.3
    )
