"""What a sweep of certified points says about R(D) everywhere (method.md 1.2)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SAME = 1e-9  # relative difference between slopes that give the same point


@dataclass(frozen=True, order=True)
class Point:
    """lower <= R(distortion) <= upper in nats, where R(D) has slope -`slope`; gap is upper - lower.

    R(D) >= lower - slope (D - distortion) at every D: a supporting line.
    """

    slope: float
    distortion: float
    lower: float
    upper: float
    gap: float
    iterations: int


@dataclass(frozen=True)
class Curve:
    """Points of R(D) in increasing slope, and the range of D where R(D) is positive and finite."""

    points: tuple[Point, ...]
    d_min: float
    d_max: float

    def joined(self, other: "Curve") -> "Curve":
        """The points of both."""
        return Curve(tuple(sorted(self.points + other.points)), self.d_min, self.d_max)

    def rate_between(self, distortion: float) -> tuple[float, float]:
        """Certified bounds of R(distortion) in nats; the upper is infinite left of all points."""
        distortion = float(distortion)  # numpy warns where a product of numbers overflows
        lines = (
            point.lower - point.slope * (distortion - point.distortion) for point in self.points
        )
        d, rates = self.hull()
        return max(0.0, *lines), float(np.interp(distortion, d, rates, left=np.inf, right=0.0))

    def distortion_between(self, rate: float) -> tuple[float, float]:
        """Certified bounds of the least distortion at a rate in nats."""
        lines = (point.distortion + (point.lower - rate) / point.slope for point in self.points)
        d, rates = self.hull()
        return max(self.d_min, *lines), float(np.interp(rate, rates[::-1], d[::-1]))

    def chord(self, distortion: float) -> float | None:
        """Slope of the hull at a distortion, None where a point has it already.

        Left of all points, four times the steepest slope so far.
        """
        d, rates = self.hull()
        right = int(np.searchsorted(d, distortion))
        slope = 4 * self.points[-1].slope
        if 0 < right < len(d):
            slope = float((rates[right - 1] - rates[right]) / (d[right] - d[right - 1]))
        known = any(math.isclose(slope, point.slope, rel_tol=SAME) for point in self.points)
        return None if known or not 0 < slope < math.inf else slope

    def hull(self) -> tuple[Floats, Floats]:
        """Distortions, increasing, and rates of the convex hull below the upper bounds."""
        ends = [(point.distortion, max(point.upper, 0.0)) for point in self.points]
        corners: list[tuple[float, float]] = []
        for d, rate in sorted([*(end for end in ends if end[0] < self.d_max), (self.d_max, 0.0)]):
            while len(corners) > 1 and not _turns_up(corners[-2], corners[-1], (d, rate)):
                corners.pop()
            if not corners or d > corners[-1][0]:
                corners.append((d, rate))
        hull = np.array(corners)
        return hull[:, 0], hull[:, 1]


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])
