"""Three q-steps on one vector Gaussian whose R(D) is known: what each sees, and where training with
it ends.

paradise sweep gaussian_source --alpha 0.07:4:6 --set train.epochs=10 --out sweeps/q
    --grid 'objective.rate={q: batch},{q: bank, size: 1024},{q: fitted}'
python benchmarks/estimators.py --sweep sweeps/q --out benchmarks/pictures/estimators.png
"""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from gaussian_source import Run, measure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from results import save
from timing import options

from paradise_cli.build import build_info, build_objective
from paradise_cli.data import batches
from paradise_cli.evaluation.evaluation_data import open_split
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.recipe.schema import Recipe
from paradise_cli.sweep.summary import components_cap

COLOURS = {"batch": "#3b6fb6", "bank": "#3f8f5b", "fitted": "#c9403f"}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """Of one q and alpha: where training with it ended, and what it sees of the encoder made by
    `fitted`.
    """

    trained: Run
    right: Run
    seen: float
    cap: float


@torch.no_grad()
def estimate(encoder: LoadedModel, recipe: Recipe) -> float:
    """The mean rate that the recipe's q sees of an encoder's training data, once it has seen them
    all.
    """
    rate = build_objective(recipe, build_info(recipe)).rate
    assert rate is not None
    split = open_split(recipe, encoder.info, split="train").split
    draw = torch.Generator().manual_seed(0)
    seen: list[float] = []
    for _ in range(2):  # the second time with a q that knows the encoder
        seen.clear()
        order = torch.arange(len(split))
        for batch in batches(
            split, order=order, batch_size=recipe.train.batch_size, device=CPU, drop_last=True
        ):
            posterior = encoder.model.encode(batch.images)
            z = posterior.rsample(torch.randn(posterior.mu.shape, generator=draw))
            seen.append(float(rate.train()(posterior, z).rate.double().mean()))
            rate.remember(posterior)
    return fmean(seen)


def rows_of(sweep: Path) -> dict[str, list[Row]]:
    """By q, in increasing rate."""
    loaded = {path: load(str(path), "cpu") for path in sorted(sweep.glob("points/*"))}
    runs = {path: measure(path) for path in loaded}
    fitted = {
        runs[p].alpha: p for p, model in loaded.items() if model.recipe.objective.rate.q == "fitted"
    }
    found: dict[str, list[Row]] = {}
    for path, model in loaded.items():
        good = fitted[runs[path].alpha]
        row = Row(
            runs[path],
            runs[good],
            estimate(loaded[good], model.recipe),
            components_cap(model.recipe),
        )
        found.setdefault(model.recipe.objective.rate.q, []).append(row)
    return {q: sorted(rows, key=lambda row: row.right.rate) for q, rows in found.items()}


def draw(found: dict[str, list[Row]], path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    for q, rows in found.items():
        if math.isfinite(rows[0].cap):
            room = [row.right.rate - row.cap for row in rows]
            left.plot(
                room, [row.seen - row.right.rate for row in rows], "o-", color=COLOURS[q], label=q
            )
        ends = [row.trained.distortion / row.trained.best_distortion - 1 for row in rows]
        right.plot([row.trained.best_rate for row in rows], ends, "o-", color=COLOURS[q], label=q)
    left.axvline(-2, color="#999999", linestyle=":", linewidth=1)
    left.set_xlabel("R - log(components), nats")
    left.set_ylabel("what q sees minus R, nats")
    right.set_xlabel("R* of reverse water-filling at this alpha, nats")
    right.set_ylabel("D / D* - 1 of the encoder trained with q")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def keep(found: dict[str, list[Row]]) -> None:
    """The table of docs/results.md, a line for each rate that was asked for."""
    columns = {"R asked for": "{asked:.2f}"}
    lines: list[dict[str, float]] = []
    for q, rows in found.items():
        cap = f" (cap {rows[0].cap:.2f})" if math.isfinite(rows[0].cap) else ""
        columns[f"`{q}`{cap}: sees, trains to"] = f"{{{q}_sees:.2f}}, {{{q}_ends:.2f}}"
        for place, row in enumerate(rows):
            if place == len(lines):
                lines.append({"asked": row.trained.best_rate})
            lines[place] |= {f"{q}_sees": row.seen, f"{q}_ends": row.trained.rate}
    what = "What three q see of an encoder whose rate is known, and where training with them ends"
    count = f"{sum(map(len, found.values()))} runs"
    save("estimators", what=what, columns=columns, rows=lines, data="gaussian_source", n=count)


if __name__ == "__main__":
    chosen = options(__doc__, sweep=None, out=None)
    found = rows_of(chosen.sweep)
    columns = "q", "log(components)", "R*", "q sees", "its error", "R trained with q", "D / D* - 1"
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for q, rows in found.items():
        for row in rows:
            off = row.trained.distortion / row.trained.best_distortion - 1
            print(
                f"| {q} | {row.cap:.2f} | {row.trained.best_rate:.2f} | {row.seen:.2f}"
                f" | {row.seen - row.right.rate:+.2f} | {row.trained.rate:.2f} | {off:+.1%} |"
            )
    if chosen.out is not None:
        draw(found, chosen.out)
    if chosen.save:
        keep(found)
