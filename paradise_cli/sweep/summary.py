"""From the runs of a sweep to its frontiers: what theory says of them, and what to be warned of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from paradise_cli.build import build_info, build_objective
from paradise_cli.core.errors import ParadiseError, named
from paradise_cli.information import frontier
from paradise_cli.information.frontier import FrontierPoint
from paradise_cli.information.rate_interval import AT_CAP, student
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.recipe.schema import Recipe
from paradise_cli.recipe.tasks import named_tasks
from paradise_cli.runs.estimate import trained_on
from paradise_cli.sweep.plan import SweepPoint
from paradise_cli.sweep.result import Frontier, SweepResult
from paradise_cli.sweep.run import FinishedRun
from paradise_cli.theory.exact_curves import exact_curve
from paradise_cli.training.step import batch_of

# Nats below log(components) up to which q can tell posteriors apart (method.md 2.6).
COMPONENT_MARGIN = 2.0
SLOPE_MARGIN = 1.0  # nats below log(components) up to which a slope can be compared with alpha
POINTS_MARGIN = 2.0  # nats below log N up to which I_N follows I(X;Z) closely enough for a slope
NO_RATE = 0.05  # nats: the encoder has collapsed


@dataclass(frozen=True)
class _Run:
    """A run that was measured: D as its objective weighs it, at sampled z, and its rate.

    `ends` are the certified ends of I(X;Z), or on training data, which are no sample that the
    encoder has not seen, of I_N. `components` is log of the number of components of the training's
    q, infinite where it has no cap.
    """

    point: SweepPoint
    evaluation: dict[str, Any]
    distortion: float
    distortion_error: float
    entropy: float | None
    ends: dict[str, Any] | None
    components: float

    @property
    def rate(self) -> dict[str, Any] | None:
        """As `RateInterval.to_json`."""
        rate: dict[str, Any] | None = self.evaluation["rate"]
        return rate

    def row(self) -> dict[str, Any]:
        """A line of the table; rates and what follows from them in nats."""
        latents = self.evaluation["latents"]
        row: dict[str, Any] = {"n": self.evaluation["n"]}
        row |= {"distortion": self.distortion, "distortion_error": self.distortion_error}
        for scores in self.evaluation["classification"][:1]:
            top1 = scores["top1"]
            row |= {
                "accuracy": top1["value"],
                "accuracy_low": top1["low"],
                "accuracy_high": top1["high"],
            }
        row |= {"active": latents["active"], "dimensions": latents["dimensions"]}
        if self.rate is not None and self.ends is not None:
            exact = self.rate["exact"]
            row |= {
                "rate": exact["nats"],
                "rate_error": exact["standard_error"],
                "rate_cap": exact["cap"],
            }
            row |= {"rate_lower": self.ends["lower"], "rate_upper": self.ends["upper"]}
            row |= {"rate_bits": exact["bits"]}
            if self.entropy is not None:
                row["excess"] = self.distortion + exact["nats"] - self.entropy
        return row


def summarise(finished: Sequence[FinishedRun], split: str) -> SweepResult:
    """The table, the frontiers and the warnings; raises ParadiseError where every run failed."""
    found = {each.point.name: _believed(each, split) for each in finished}
    # A point that failed is a row without numbers; the others are judged without it.
    runs = [run for run in found.values() if isinstance(run, _Run)]
    failed = tuple((name, reason) for name, reason in found.items() if isinstance(reason, str))
    if not runs:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed)
        raise ParadiseError(f"every run of the sweep failed:\n{reasons}")
    groups = dict.fromkeys(run.point.group for run in runs)
    frontiers = tuple(
        _frontier(group, [run for run in runs if run.point.group == group], split)
        for group in groups
    )
    first = runs[0].evaluation
    return SweepResult(
        name=runs[0].point.recipe.name,
        data=first["data"],
        split=split,
        n=first["n"],
        unit=" + ".join(dict.fromkeys(each["unit"] for each in first["distortion"])),
        rows=tuple(_row(each, found[each.point.name]) for each in finished),
        frontiers=frontiers,
        warnings=tuple(text for run in runs for text in _collapse(run))
        + tuple(_other_alphas(frontiers)),
        failed=failed,
    )


def components_cap(recipe: Recipe) -> float:
    """log of the number of components of the mixture q, infinite where q has no cap."""
    info = build_info(recipe)
    images = trained_on(recipe, info)
    # A q that keeps posteriors keeps no more than there are.
    rate = build_objective(recipe, replace(info, train_size=images)).rate
    return math.inf if rate is None else rate.cap(batch_of(images, recipe.train.batch_size))


def _believed(run: FinishedRun, split: str) -> "_Run | str":
    """As `_measured`, of a file that anyone may have edited."""
    try:
        found = _measured(run, split)
        # All that is read of a measurement stands in its row.
        if isinstance(found, _Run):
            found.row()
    except (LookupError, TypeError, AttributeError) as error:
        return (
            f"what was measured in {run.folder} is damaged or was edited ({named(error)}): move"
            f" {run.folder / 'result.json'} away, and the same command makes it anew"
        )
    return found


def _measured(run: FinishedRun, split: str) -> "_Run | str":
    """The run, or why it tells nothing."""
    recipe = run.point.recipe
    evaluation = run.evaluation
    if evaluation is None:
        return run.error or "not measured"
    by_task = {each["task"]: each for each in evaluation["distortion"]}
    tasks = named_tasks(recipe)
    if missing := [name for name in tasks if name not in by_task]:
        return (
            f"{evaluation['data']} has no labels of {', '.join(missing)}: its distortion is not"
            " known"
        )
    terms = [(task.weight, by_task[name]) for name, task in tasks.items()]
    error = 0.0
    for weight, each in terms:
        # The tasks see the same images: their errors may add up.
        error += weight * (math.inf if each["sampled_error"] is None else each["sampled_error"])
    # On training data, which are no sample that the encoder has not seen, I_N alone is certified.
    estimand = "empirical" if split == "train" else "population"
    return _Run(
        point=run.point,
        evaluation=evaluation,
        distortion=sum(weight * each["sampled"] for weight, each in terms),
        distortion_error=error,
        entropy=_label_entropy(recipe, evaluation),
        ends=evaluation["rate"] and evaluation["rate"][estimand],
        components=components_cap(recipe),
    )


def _label_entropy(recipe: Recipe, evaluation: dict[str, Any]) -> float | None:
    """H(Y) in nats of the labels, where D is one cross-entropy over all images."""
    tasks = recipe.objective.tasks
    scores = evaluation["classification"]
    # Another loss, or one of smoothed labels, is no -log p(y|z), of which alone it is said.
    heads = [task.distortion for task in tasks]
    if any(d.name != "cross_entropy" or d.hyper["label_smoothing"] > 0 for d in heads):
        return None
    # D + R >= H(Y) is said of the labels that D was measured on, all of them, with weight one.
    if len(tasks) != 1 or tasks[0].weight != 1 or not scores or scores[0]["n"] < evaluation["n"]:
        return None
    entropy: float = scores[0]["label_entropy"]
    return entropy


def _row(run: FinishedRun, found: "_Run | str") -> dict[str, Any]:
    point = run.point
    row: dict[str, Any] = {"run": point.name, **point.settings}
    row |= {"alpha": point.recipe.objective.alpha, "seed": point.recipe.train.seed}
    return row | ({"error": found} if isinstance(found, str) else found.row() | {"error": None})


def _frontier(group: tuple[tuple[str, str], ...], members: Sequence[_Run], split: str) -> Frontier:
    recipe = members[0].point.recipe
    rated = [run for run in members if run.rate is not None]
    alphas = sorted({run.point.recipe.objective.alpha for run in rated})
    points = tuple(
        _point([run for run in rated if run.point.recipe.objective.alpha == alpha])
        for alpha in alphas
    )
    exact, entropy = exact_curve(recipe), members[0].entropy
    if not points:
        return Frontier(group, (), (), (), exact, entropy)
    checks = [frontier.monotone(points), frontier.convex(points)]
    heads = [task.distortion for task in recipe.objective.tasks]
    decoded = all(DISTORTIONS[head.name](**head.hyper).reads == "pixels" for head in heads)
    # With labels that x decides, the frontier is a line of slope 1 whatever alpha (method.md 2.6);
    # between views it is that of training, which is not measured here.
    slopes = frontier.slopes(points) if decoded else []
    if slopes:
        checks.append(frontier.slope_check(slopes))
    if entropy is not None:
        checks.append(frontier.above_labels(points, entropy))
    # Of points that it learned from, an encoder knows more than the curve of new ones allows.
    if exact is not None and split != "train":
        checks.append(frontier.above_curve(points, exact.bounds))
    return Frontier(group, points, tuple(checks), tuple(slopes), exact, entropy)


def _point(seeds: Sequence[_Run]) -> FrontierPoint:
    """The mean over seeds; the ends of the rate hold for each of them."""
    recipe = seeds[0].point.recipe
    rates = [run.rate for run in seeds if run.rate is not None]
    rate, rate_error = _mean(
        [each["exact"]["nats"] for each in rates],
        [each["exact"]["standard_error"] for each in rates],
    )
    distortion, distortion_error = _mean(
        [run.distortion for run in seeds], [run.distortion_error for run in seeds]
    )
    ends = [run.ends for run in seeds if run.ends is not None]
    alpha = recipe.objective.alpha
    squared = recipe.objective.lagrangian == "squared"
    components = seeds[0].components
    log_n = rates[0]["exact"]["cap"]
    # Near a cap the rate shown stands still while the true one, and the slope, go on.
    comparable = min(components - SLOPE_MARGIN, log_n - POINTS_MARGIN)
    return FrontierPoint(
        name=f"alpha = {alpha:.4g}",
        alpha=alpha,
        slope=2 * alpha * max(0.0, rate) if squared else alpha,
        distortion=distortion,
        distortion_error=distortion_error,
        rate=rate,
        rate_error=rate_error,
        lower=min(end["lower"] for end in ends),
        upper=max(end["upper"] for end in ends),
        cap=min(components, log_n),
        # What a fixed q makes training pay is more than I(X;Z), whose slope is then another.
        comparable=0.0 if recipe.objective.rate.q == "fixed" else comparable,
    )


def _mean(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and its standard error, of the data that they share and of the seeds.

    The seeds' is widened, as Student's t asks, to make ERRORS of it as rare as of a known one.
    """
    count = len(values)
    if count == 1:
        return values[0], errors[0]
    widened = student(frontier.ERRORS, count) / frontier.ERRORS
    return fmean(values), math.hypot(max(errors), widened * stdev(values) / math.sqrt(count))


def _collapse(run: _Run) -> list[str]:
    """What is wrong with one run's rate or latents."""
    name = run.point.name
    latents = run.evaluation["latents"]
    texts = []
    if latents["active"] < latents["dimensions"]:
        texts.append(
            f"{name}: {latents['active']} of {latents['dimensions']} dimensions are active"
        )
    if run.rate is None:
        return [*texts, f"{name}: {run.evaluation['rate_note']}"]
    rate, cap = run.rate["exact"]["nats"], run.rate["exact"]["cap"]
    if rate < NO_RATE:
        texts.append(f"{name}: collapsed, the rate is {max(0.0, rate):.3f} nats")
    if rate > cap - AT_CAP:
        texts.append(f"{name}: the rate is at its cap log N = {cap:.2f} nats; it may be any larger")
    if rate > run.components - COMPONENT_MARGIN:
        texts.append(
            f"{name}: rate {rate:.2f} nats > log(components) - {COMPONENT_MARGIN:g} ="
            f" {run.components - COMPONENT_MARGIN:.2f}: q: {run.point.recipe.objective.rate.q}"
            " cannot tell posteriors apart there and alpha loses its effect; use q: fitted, or more"
            " components"
        )
    return texts


def _other_alphas(frontiers: Sequence[Frontier]) -> list[str]:
    """Where alpha acts, if some points collapsed or are at their cap."""
    texts = []
    for each in frontiers:
        full = [
            point.alpha for point in each.points if point.alpha and point.rate > point.cap - AT_CAP
        ]
        dead = [point.alpha for point in each.points if point.alpha and point.rate < NO_RATE]
        if not (full or dead):
            continue
        # Between the largest alpha that is too small and the smallest that is too large.
        low = max(full) if full else min(dead) / 100
        high = min(dead) if dead else max(full) * 100
        wrong = []
        if full:
            wrong.append(f"{len(full)} alphas at the cap")
        if dead:
            wrong.append(f"{len(dead)} collapsed")
        where = f"{each.title}: " if each.group else ""
        count = max(9, len(each.points))
        texts.append(f"{where}{' and '.join(wrong)}: try --alpha {low:.3g}:{high:.3g}:{count}")
    return texts
