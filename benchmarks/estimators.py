"""Three q-steps on one vector Gaussian whose R(D) is known: what each sees, and where training with it ends.

paradise sweep gaussian_source --alpha 0.07:4:6 --set train.epochs=10 --out sweeps/q
    --grid 'objective.rate={q: batch},{q: bank, size: 1024},{q: fitted}'
python benchmarks/estimators.py --sweep sweeps/q --out benchmarks/pictures/estimators.png
"""

import math
from pathlib import Path

import torch
from gaussian_source import Run, measure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from timing import options

from paradise_cli.build import build_info, build_objective
from paradise_cli.data import batches
from paradise_cli.evaluation_data import open_split
from paradise_cli.loading import load
from paradise_cli.sweep.result import components_cap

COLOURS = {"batch": "#3b6fb6", "bank": "#3f8f5b", "fitted": "#c9403f"}


@torch.no_grad()
def estimate(run: Path) -> float:
    """The mean rate that the run's own q sees over its training data, once it has seen them all, in nats."""
    loaded = load(str(run), "cpu")
    recipe, model = loaded.recipe, loaded.model
    rate = build_objective(recipe, build_info(recipe)).rate
    assert rate is not None
    split = open_split(recipe, loaded.info, split="train").split
    seen = []
    draw = torch.Generator().manual_seed(0)
    for _ in range(2):
        seen.clear()
        for batch in batches(
            split, order=torch.arange(len(split)), batch_size=recipe.train.batch_size,
            device=torch.device("cpu"), drop_last=True,
        ):  # fmt: skip
            posterior = model.encode(batch.images)
            z = posterior.rsample(torch.randn(posterior.mu.shape, generator=draw))
            seen.append(rate.train()(posterior, z).rate.double().mean())
            rate.remember(posterior)
    return float(torch.stack(seen).mean())


def draw(found: dict[str, list[tuple[Run, float, float]]], path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    for q, rows in found.items():
        room = [run.rate - cap for run, _, cap in rows] if math.isfinite(rows[0][2]) else []
        if room:
            left.plot(room, [seen - run.rate for run, seen, _ in rows], "o-", color=COLOURS[q], label=q)
        right.plot(
            [run.best_rate for run, _, _ in rows],
            [run.distortion / run.best_distortion - 1 for run, _, _ in rows],
            "o-", color=COLOURS[q], label=q,
        )  # fmt: skip
    left.axvline(-2, color="#999999", linestyle=":", linewidth=1)
    left.set_xlabel("R - log(components), nats")
    left.set_ylabel("what q sees minus R, nats")
    right.set_xlabel("R* of reverse water-filling at this alpha, nats")
    right.set_ylabel("D / D* - 1 of the trained encoder")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    chosen = options(__doc__, sweep=None, out=None)
    found: dict[str, list[tuple[Run, float, float]]] = {}
    for path in sorted(chosen.sweep.glob("points/*")):
        recipe = load(str(path), "cpu").recipe
        q = recipe.objective.rate.q
        found.setdefault(q, []).append((measure(path), estimate(path), components_cap(recipe)))
    columns = "q", "log(components)", "R*", "R trained", "what q sees", "its error", "D / D* - 1"
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for q, rows in found.items():
        rows.sort(key=lambda row: row[0].best_rate)
        for run, seen, cap in rows:
            print(
                f"| {q} | {cap:.2f} | {run.best_rate:.2f} | {run.rate:.2f} | {seen:.2f}"
                f" | {seen - run.rate:+.2f} | {run.distortion / run.best_distortion - 1:+.1%} |"
            )
    if chosen.out is not None:
        draw(found, chosen.out)
