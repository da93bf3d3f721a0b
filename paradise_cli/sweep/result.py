"""What a sweep measured: a table of its runs, and for each frontier the verdict."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from paradise_cli.build import build_info, build_objective
from paradise_cli.errors import ParadiseError
from paradise_cli.exact_curves import ExactCurve, exact_curve
from paradise_cli.information import frontier
from paradise_cli.information.frontier import Check, FrontierPoint, Slope
from paradise_cli.information.rate_interval import AT_CAP
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.recipe import Recipe
from paradise_cli.storage import publish_text, write_json
from paradise_cli.sweep.run import Outcome

COMPONENT_MARGIN = 2.0  # nats below log(components) up to which q can tell posteriors apart (method.md 2.6)
NO_RATE = 0.05  # nats: the encoder has collapsed


@dataclass(frozen=True)
class Frontier:
    """The points of one group, a mean over seeds each, and what holds of them.

    `entropy` is H(Y) of the measured labels in nats, None where D is not the cross-entropy of one label.
    """

    group: tuple[tuple[str, str], ...]
    points: tuple[FrontierPoint, ...]
    checks: tuple[Check, ...]
    slopes: tuple[Slope, ...]
    exact: ExactCurve | None
    entropy: float | None

    @property
    def title(self) -> str:
        """The settings that tell it from other frontiers."""
        return ", ".join(f"{key.rpartition('.')[2]} = {value}" for key, value in self.group)


@dataclass(frozen=True)
class SweepResult:
    """All runs and frontiers of a sweep; `unit` is that of the distortion."""

    name: str
    data: str
    split: str
    n: int
    unit: str
    rows: tuple[dict[str, Any], ...]
    frontiers: tuple[Frontier, ...]
    warnings: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "recipe": self.name,
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "distortion_unit": self.unit,
            "runs": list(self.rows),
            "frontiers": [
                {
                    "settings": dict(each.group),
                    "points": [_finite(asdict(point)) for point in each.points],
                    "checks": [asdict(check) for check in each.checks],
                    "slopes": [_finite(asdict(slope)) for slope in each.slopes],
                    "exact_curve": each.exact and each.exact.name,
                    "label_entropy": each.entropy,
                }
                for each in self.frontiers
            ],
            "warnings": list(self.warnings),
            "failed": [{"run": name, "error": error} for name, error in self.failed],
        }

    def write(self, folder: Path) -> None:
        """`sweep.csv` and `sweep.json`, each whole or not at all."""
        with publish_text(folder / "sweep.csv") as file:
            columns = list(dict.fromkeys(key for row in self.rows for key in row))
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
        write_json(folder / "sweep.json", self.to_json())


def judge(outcomes: Sequence[Outcome], split: str) -> SweepResult:
    """The table, the frontiers and the warnings; raises ParadiseError where every run failed."""
    done = [outcome for outcome in outcomes if outcome.evaluation is not None]
    if not done:
        reasons = "\n".join(f"  {outcome.point.name}: {outcome.error}" for outcome in outcomes)
        raise ParadiseError(f"every run of the sweep failed:\n{reasons}")
    groups = {
        outcome.point.group: [o for o in done if o.point.group == outcome.point.group] for outcome in done
    }
    frontiers = tuple(_frontier(group, members) for group, members in groups.items())
    first = done[0].evaluation or {}
    return SweepResult(
        name=done[0].point.recipe.name,
        data=first["data"],
        split=split,
        n=first["n"],
        unit=" + ".join(dict.fromkeys(each["unit"] for each in first["distortion"])),
        rows=tuple(_row(outcome) for outcome in outcomes),
        frontiers=frontiers,
        warnings=tuple(text for outcome in done for text in _collapse(outcome)) + tuple(_range(frontiers)),
        failed=tuple((o.point.name, o.error) for o in outcomes if o.error is not None),
    )


def components_cap(recipe: Recipe) -> float:
    """log of the number of components that the recipe's q is a mixture of, infinite where it has no cap."""
    rate = build_objective(recipe, build_info(recipe)).rate
    return math.inf if rate is None else rate.cap(recipe.train.batch_size)


def _row(outcome: Outcome) -> dict[str, Any]:
    """One line of the table; a run that failed has its reason alone."""
    point, evaluation = outcome.point, outcome.evaluation
    row: dict[str, Any] = {"run": point.name, **point.settings}
    row |= {"alpha": point.recipe.objective.alpha, "seed": point.recipe.train.seed}
    if evaluation is None:
        return row | {"error": outcome.error}
    distortion, error = _distortion(point.recipe, evaluation)
    row |= {"n": evaluation["n"], "distortion": distortion, "distortion_error": error}
    for scores in evaluation["classification"][:1]:
        row |= {f"accuracy{end}": scores["top1"][of] for end, of in _INTERVAL.items()}
    latents = evaluation["latents"]
    row |= {"active": latents["active"], "dimensions": latents["dimensions"]}
    if (rate := evaluation["rate"]) is not None:
        exact, population = rate["exact"], rate["population"]
        row |= {"rate": exact["nats"], "rate_error": exact["standard_error"], "rate_cap": exact["cap"]}
        row |= {"rate_lower": population["lower"], "rate_upper": population["upper"]}
    return row | {"error": None}


_INTERVAL = {"": "value", "_low": "low", "_high": "high"}


def _distortion(recipe: Recipe, evaluation: dict[str, Any]) -> tuple[float, float]:
    """D as the objective weighs it, at sampled z, and a standard error that holds for dependent tasks."""
    pairs = list(zip(recipe.objective.tasks, evaluation["distortion"], strict=False))
    total = sum(task.weight * measured["sampled"] for task, measured in pairs)
    return total, sum(task.weight * (measured["sampled_error"] or 0.0) for task, measured in pairs)


def _frontier(group: tuple[tuple[str, str], ...], members: Sequence[Outcome]) -> Frontier:
    recipe = members[0].point.recipe
    rated = [o for o in members if o.evaluation is not None and o.evaluation["rate"] is not None]
    alphas = sorted({o.point.recipe.objective.alpha for o in rated})
    points = tuple(_point([o for o in rated if o.point.recipe.objective.alpha == alpha]) for alpha in alphas)
    supervised = [
        DISTORTIONS[t.distortion.name](**t.distortion.hyper).supervised for t in recipe.objective.tasks
    ]
    exact = exact_curve(recipe)
    entropy = _label_entropy(recipe, members[0]) if supervised == [True] else None
    if not points:
        return Frontier(group, (), (), (), exact, entropy)
    checks = [frontier.monotone(points), frontier.convex(points)]
    slopes = frontier.slopes(points) if not any(supervised) else []
    if slopes:
        checks.append(frontier.slope_check(slopes))
    if entropy is not None:
        checks.append(frontier.above_labels(points, entropy))
    if exact is not None:
        checks.append(frontier.above_curve(points, exact.bounds))
    return Frontier(group, points, tuple(checks), tuple(slopes), exact, entropy)


def _label_entropy(recipe: Recipe, outcome: Outcome) -> float | None:
    """H(Y) in nats of the labels that D was measured on, where all images have one."""
    evaluation = outcome.evaluation or {}
    labelled = [s for s in evaluation["classification"] if s["n"] == evaluation["n"]]
    return labelled[0]["label_entropy"] if labelled and recipe.objective.tasks[0].weight == 1 else None


def _point(seeds: Sequence[Outcome]) -> FrontierPoint:
    """The mean over seeds; their spread counts as error, and the ends of I(X;Z) hold for each seed."""
    rows = [_row(outcome) for outcome in seeds]
    recipe = seeds[0].point.recipe
    rate, rate_error = _mean([row["rate"] for row in rows], [row["rate_error"] for row in rows])
    distortion, distortion_error = _mean(
        [row["distortion"] for row in rows], [row["distortion_error"] for row in rows]
    )
    alpha = recipe.objective.alpha
    return FrontierPoint(
        name=f"alpha = {alpha:.4g}",
        alpha=alpha,
        slope=alpha if recipe.objective.lagrangian == "linear" else 2 * alpha * rate,
        distortion=distortion,
        distortion_error=distortion_error,
        rate=rate,
        rate_error=rate_error,
        lower=min(row["rate_lower"] for row in rows),
        upper=max(row["rate_upper"] for row in rows),
        cap=min(components_cap(recipe), rows[0]["rate_cap"]),
    )


def _mean(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and its standard error: that of the data, which they share, and that of the seeds."""
    spread = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return fmean(values), math.hypot(max(errors), spread)


def _collapse(outcome: Outcome) -> list[str]:
    """What is wrong with one run's rate or latents."""
    row, name = _row(outcome), outcome.point.name
    texts = []
    if row["active"] < row["dimensions"]:
        texts.append(f"{name}: {row['active']} of {row['dimensions']} dimensions are active")
    if "rate" not in row:
        return [*texts, f"{name}: {(outcome.evaluation or {})['rate_note']}"]
    if row["rate"] < NO_RATE:
        texts.append(f"{name}: collapsed, the rate is {row['rate']:.3f} nats")
    if row["rate"] > row["rate_cap"] - AT_CAP:
        texts.append(
            f"{name}: the rate is at its cap log N = {row['rate_cap']:.2f} nats; it may be any larger"
        )
    cap = components_cap(outcome.point.recipe)
    if row["rate"] > cap - COMPONENT_MARGIN:
        q = outcome.point.recipe.objective.rate.q
        texts.append(
            f"{name}: rate {row['rate']:.2f} nats > log(components) - {COMPONENT_MARGIN:g} ="
            f" {cap - COMPONENT_MARGIN:.2f}: q: {q} cannot tell posteriors apart there and alpha loses its"
            " effect; use q: fitted, or more components"
        )
    return texts


def _range(frontiers: Sequence[Frontier]) -> list[str]:
    """Where alpha acts, if some points collapsed or are at their cap."""
    texts = []
    for each in frontiers:
        dead = [point.alpha for point in each.points if point.rate < NO_RATE]
        full = [point.alpha for point in each.points if point.rate > point.cap - AT_CAP]
        low, high = max(full, default=None), min(dead, default=None)
        if low is None and high is None:
            continue
        low, high = (
            (low if low is not None else (high or 1) / 100),
            (high if high is not None else (low or 1) * 100),
        )
        where = f"{each.title}: " if each.group else ""
        texts.append(
            f"{where}alpha acts between the two: try --alpha {low:.3g}:{high:.3g}:{max(9, len(each.points))}"
        )
    return texts


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    """Infinite numbers, which JSON has not, as null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
