"""The exact R(D) of a recipe's data, where it is known."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from paradise_cli.information import closed_forms, known_sources
from paradise_cli.information.closed_forms import ClosedForm
from paradise_cli.recipe.schema import Recipe
from paradise_cli.theory.rate_distortion import default_slopes, solve

POINTS = 30  # of a curve that has no closed form


@dataclass(frozen=True)
class ExactCurve:
    """Certified bounds of R(D) in nats, and the distortion `d_max` from which on it is 0.

    The two bounds of a closed form are one.
    """

    name: str
    bounds: Callable[[float], tuple[float, float]]
    d_max: float


def exact_curve(recipe: Recipe) -> ExactCurve | None:
    """R(D) of the recipe's data under its one distortion; None where that is not known."""
    source = recipe.data
    tasks = recipe.objective.tasks
    # Of several tasks D is a weighted sum, whose curve is that of no known source.
    if len(tasks) != 1 or tasks[0].weight != 1:
        return None
    distortion = tasks[0].distortion.name
    if (source.name, distortion) not in _CURVES:
        return None
    # As text, since a dictionary can be no key of a cache.
    return _curve(source.name, distortion, json.dumps(source.hyper, sort_keys=True))


@cache  # the frontiers of a sweep share one curve, which is solved and drawn once
def _curve(source: str, distortion: str, hyper: str) -> ExactCurve:
    return _CURVES[source, distortion](json.loads(hyper))


def _gaussian(hyper: dict[str, Any]) -> ExactCurve:
    return _closed("reverse water-filling", closed_forms.gaussian(hyper["variances"]))


def _hamming(hyper: dict[str, Any]) -> ExactCurve:
    return _closed("h(p) - h(D)", closed_forms.bernoulli(hyper["p"]))


def _log_loss(hyper: dict[str, Any]) -> ExactCurve:
    return _closed("h(p) - D", closed_forms.bernoulli_log_loss(hyper["p"]))


def _laplacian(hyper: dict[str, Any]) -> ExactCurve:
    return _closed("log(scale / D)", closed_forms.laplacian(hyper["scale"]))


def _banana(hyper: dict[str, Any]) -> ExactCurve:
    known = known_sources.banana()
    curve = solve(known, default_slopes(known, POINTS), tolerance=1e-4).curve

    def bounds(distortion: float) -> tuple[float, float]:
        # Below what the grid resolves it says nothing of the density it stands for.
        return (
            curve.rate_between(distortion)
            if distortion >= known.least_resolved
            else (0.0, math.inf)
        )

    return ExactCurve(
        f"Blahut-Arimoto, {len(known.source.distortion):,} letters", bounds, curve.d_max
    )


def _closed(name: str, form: ClosedForm) -> ExactCurve:
    return ExactCurve(name, lambda distortion: (form.rate(distortion),) * 2, form.d_max)


_CURVES: dict[tuple[str, str], Callable[[dict[str, Any]], ExactCurve]] = {
    ("gaussian_source", "squared_error"): _gaussian,
    ("bernoulli_source", "absolute_error"): _hamming,
    ("bernoulli_source", "bernoulli"): _log_loss,
    ("laplacian_source", "absolute_error"): _laplacian,
    ("banana_source", "squared_error"): _banana,
}
