"""Solve a source: a sweep of Blahut-Arimoto, questions about the curve, and files of both."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paradise_cli.core.errors import UsageError
from paradise_cli.core.results import REMEDY, refuse_foreign
from paradise_cli.core.storage import write_numbers
from paradise_cli.core.units import BITS
from paradise_cli.information.blahut_arimoto import blahut_arimoto, steepest
from paradise_cli.information.envelope import Curve, Point
from paradise_cli.information.known_sources import KnownSource

SPAN = (0.1, 30.0)  # of a default sweep's slopes, in nats per width of the range of distortion
CSV_FILE = "curve.csv"
JSON_FILE = "curve.json"
PICTURE_FILE = "curve.png"
ROUNDS = 60  # of halving, at most, for an answer
END_ERROR = 2e-6  # of an end of the curve, written with six digits


@dataclass(frozen=True)
class CertifiedAnswer:
    """What was asked, `distortion` or `rate` (nats), and certified bounds of the other."""

    asked: str
    at: float
    lower: float
    upper: float


@dataclass(frozen=True)
class RateDistortion:
    """A source's certified curve, and the questions answered from it."""

    known: KnownSource
    curve: Curve
    tolerance: float
    question: dict[str, Any]
    answers: tuple[CertifiedAnswer, ...] = ()

    @property
    def unfinished(self) -> list[Point]:
        """Points whose gap stayed above the tolerance."""
        return [point for point in self.curve.points if point.gap > self.tolerance]

    def rows(self) -> list[dict[str, float | int | None]]:
        """One row a point; the closed form is None where there is none, or the grid too coarse."""
        end = steepest(self.known.source)
        return [
            {
                # The end of the curve has no slope of its own: every steeper one gives it.
                "slope": point.slope if point.slope < end else None,
                "distortion": point.distortion,
                # No information is negative, though a bound of it may be.
                "lower_nats": max(0.0, point.lower),
                "upper_nats": max(0.0, point.upper),
                "gap_nats": point.gap,
                "lower_bits": max(0.0, point.lower) * BITS,
                "upper_bits": max(0.0, point.upper) * BITS,
                "closed_form_nats": self.known.rate(point.distortion),
                "iterations": point.iterations,
            }
            for point in self.curve.points
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "question": self.question,
            "source": self.known.name,
            "letters": list(self.known.source.distortion.shape),
            "d_min": self.curve.d_min,
            "d_max": self.curve.d_max,
            "tolerance_nats": self.tolerance,
            "points": self.rows(),
            "answers": [vars(answer) for answer in self.answers],
        }

    def write(self, folder: Path) -> None:
        """Write the table and the JSON object, as `write_numbers`."""
        document, table, picture = (folder / name for name in (JSON_FILE, CSV_FILE, PICTURE_FILE))
        write_numbers(document, self.to_json(), table, self.rows(), picture)


def question_of(
    known: KnownSource,
    slopes: Sequence[float],
    tolerance: float,
    distortions: Sequence[float] = (),
    rates: Sequence[float] = (),
) -> dict[str, Any]:
    """What is asked of a source, as JSON values: equal questions have equal answers."""
    digest = hashlib.sha256()
    # A file's name says nothing of its content.
    for part in (known.source.probabilities, known.source.distortion):
        digest.update(part.contiguous().numpy().tobytes())
    return {
        "source": known.name,
        "sha256": digest.hexdigest(),
        "slopes": list(slopes),
        "tolerance_nats": tolerance,
        "distortions": list(distortions),
        "rates": list(rates),
    }


def place_of(question: dict[str, Any], folder: Path, *, free: bool) -> Path:
    """The folder for an answer, in which no other question was answered before.

    Where one was, the answer goes to the first of `folder-2`, `folder-3`, ... if another place is
    `free` to choose; else UsageError is raised, as for files that are no answer's.
    """
    place = folder
    number = 2
    while (found := _answered(place)) not in (None, question):
        if not free:
            raise UsageError(
                f"{folder} holds another result ({found and found.get('source')}): {REMEDY}"
            )
        place = folder.with_name(f"{folder.name}-{number}")
        number += 1
    # Of a killed command the document may still have its temporary name.
    refuse_foreign(place, (CSV_FILE, PICTURE_FILE), JSON_FILE, f".{JSON_FILE}.*.tmp")
    return place


def _answered(folder: Path) -> dict[str, Any] | None:
    """The question that was answered in a folder, None where there is no result."""
    try:
        found = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        return dict(found["question"])
    except FileNotFoundError:
        return None
    except (NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError):
        return {}  # of an older version, or somebody else's: not to be overwritten


def default_slopes(known: KnownSource, points: int) -> list[float]:
    """Slopes in equal ratios over the part of the curve that shows, and that a grid can resolve."""
    p, d = known.source.supported()
    # Slopes are nats per unit of D: in widths of its range they are the same in every unit.
    span = float((p @ d).min() - p @ d.min(1).values) or 1.0
    slopes = np.geomspace(SPAN[0] / span, SPAN[1] / span, 1000)
    form = known.closed_form
    if form is not None:
        # Steeper than that the curve is one of the grid, no longer of the density.
        slopes = np.array(
            [slope for slope in slopes if form.distortion(slope) >= known.least_resolved]
        )
    if not len(slopes):
        raise UsageError(
            f"a grid of {len(d)} letters is too coarse for {known.name}; use more --letters"
        )
    return [float(slope) for slope in np.geomspace(slopes[0], slopes[-1], points)]


def solve(
    known: KnownSource,
    slopes: Sequence[float],
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 5000,
    distortions: Sequence[float] = (),
    rates: Sequence[float] = (),
    progress: Callable[[int], None] | None = None,
) -> RateDistortion:
    """Points at these slopes, and certified answers at these distortions and rates (nats).

    The curve of a finite source also gets its end, D_min. `progress` is called with how many
    slopes are done. Raises UsageError for slopes that are not positive, and questions outside the
    curve.
    """

    def sweep(slopes: Sequence[float], tolerance: float) -> Curve:
        return blahut_arimoto(
            known.source, torch.tensor(slopes, dtype=torch.float64),
            tolerance=tolerance, max_iterations=max_iterations, progress=progress,
        )  # fmt: skip

    # As D goes to 0 the rate of a density has no end; that of its grid would say nothing of it.
    curve = sweep(slopes if known.is_grid else [*slopes, steepest(known.source)], tolerance)
    asked = [("distortion", d) for d in distortions] + [("rate", rate) for rate in rates]
    answers = [
        _answer(curve, sweep, name, _within(known, curve, name, value), tolerance)
        for name, value in asked
    ]
    question = question_of(known, slopes, tolerance, distortions, rates)
    return RateDistortion(known, curve, tolerance, question, tuple(answers))


def _within(known: KnownSource, curve: Curve, name: str, value: float) -> float:
    """The value asked about, which lies on the curve; UsageError for one that does not."""
    if name == "distortion":
        least = max(curve.d_min, known.least_resolved)
        most = curve.d_max
    else:
        least = 0.0
        most = math.inf if known.is_grid else curve.rate_between(curve.d_min)[1]
    # An end of the curve, as people copy it with six digits, is that end.
    for end in (least, most):
        if math.isclose(value, end, rel_tol=END_ERROR):
            return end
    if not least <= value <= most:
        finer = "; more --letters resolve less" if known.is_grid and value < least else ""
        raise UsageError(
            f"{name} {value:g} is outside [{least:.6g}, {most:.6g}], the range of this curve{finer}"
        )
    return value


def _answer(
    curve: Curve,
    sweep: Callable[[Sequence[float], float], Curve],
    asked: str,
    at: float,
    tolerance: float,
) -> CertifiedAnswer:
    """Bounds from the hull's chord, refined at its slope until they meet or the curve is straight.

    Bounds of a distortion meet where they are `tolerance` nats apart on the curve: in any unit of
    D.
    """
    for _ in range(ROUNDS):
        if asked == "distortion":
            lower, upper = curve.rate_between(at)
            slope = curve.chord(at)
        else:
            lower, upper = curve.distortion_between(at)
            slope = curve.chord(upper)
        if slope is None:
            break  # solved at this slope already: on a straight piece nothing gets tighter
        nats = upper - lower if asked == "distortion" else (upper - lower) * slope
        if nats <= tolerance:
            break
        # Half, so that the gap of the new point leaves room for that of the chord.
        curve = curve.joined(sweep([slope], tolerance / 2))
    # Where they have met, rounding may have crossed them.
    return CertifiedAnswer(asked, at, min(lower, upper), upper)
