"""20 slopes of a 1,000 x 1,000 source to a gap of 1e-4 nats, against plain numpy, one slope at a
time.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from timing import finish, machine, options, report, seconds

from paradise_cli.information.blahut_arimoto import DiscreteSource, blahut_arimoto
from paradise_cli.information.envelope import Curve

N, SLOPES, TOLERANCE = 1000, 20, 1e-4
# iterations of a slope: where the plain iteration needs more, the ratio is an underestimate
MOST = 20_000


def points() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1,000 equally likely points of a plane, reproduced by 1,000 others, under squared error."""
    draw = np.random.default_rng(0)
    source, letters = draw.normal(size=(2, N, 2))
    return np.full(N, 1 / N), np.square(source[:, None] - letters).sum(2)


def plain(p: NDArray[np.float64], d: NDArray[np.float64], slope: float) -> tuple[int, float]:
    """Blahut-Arimoto in the exponential domain with the same gap check: iterations and gap."""
    kernel = np.exp(-slope * d)
    q = np.full(d.shape[1], 1 / d.shape[1])
    for iteration in range(MOST + 1):
        c = (p / (kernel @ q)) @ kernel
        gap = math.log(c.max()) - float((q * c) @ np.log(c))
        if gap <= TOLERANCE or iteration == MOST:
            break
        q *= c
    return iteration, gap


def ours(
    source: DiscreteSource, slopes: NDArray[np.float64], warm_start: bool
) -> tuple[float, int]:
    """Seconds and iterations."""
    found: list[Curve] = []
    time = seconds(
        lambda: found.append(
            blahut_arimoto(
                source, torch.from_numpy(slopes),
                tolerance=TOLERANCE, max_iterations=MOST, warm_start=warm_start,
            )
        )
    )  # fmt: skip
    iterations = sum(point.iterations for point in found[0].points)
    gap = max(point.gap for point in found[0].points)
    start = "warm" if warm_start else "cold"
    print(
        f"ours, {start} starts: {time:.1f} s, {iterations:,} iterations, largest gap {gap:.1e}"
        " nats",
        flush=True,
    )
    return time, iterations


def main() -> None:
    chosen = options(__doc__)
    machine()
    p, d = points()
    slopes = np.geomspace(0.6, 30, SLOPES)
    source = DiscreteSource(torch.from_numpy(p), torch.from_numpy(d))
    warm, _ = ours(source, slopes, True)
    cold, iterations = ours(source, slopes, False)
    results: list[tuple[int, float]] = []
    theirs = seconds(lambda: results.extend(plain(p, d, float(slope)) for slope in slopes))
    total = sum(count for count, _ in results)
    short = sum(gap > TOLERANCE for _, gap in results)
    print(f"numpy: {theirs:.1f} s, {total:,} iterations, {short} slopes cut off at {MOST:,}")
    report("numpy / ours, seconds", theirs / warm, 5, at_least=True)
    print(f"the warm start alone, seconds: {cold / warm:.2f}x")
    print(f"the acceleration alone, iterations: {total / iterations:.1f}x")
    what = f"{SLOPES} slopes of a {N:,} x {N:,} source to a gap of {TOLERANCE:g} nats"
    finish(chosen, what=what, data="random points of a plane")


if __name__ == "__main__":
    main()
