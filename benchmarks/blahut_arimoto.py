"""20 slopes of a 1,000 x 1,000 source to a gap of 1e-4 nats, against plain numpy, one slope at a time."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from timing import machine, report, seconds

from paradise_cli.information.blahut_arimoto import DiscreteSource, blahut_arimoto
from paradise_cli.information.envelope import Curve

N, SLOPES, TOLERANCE = 1000, 20, 1e-4
MOST = 2000  # iterations of a slope: where the plain iteration needs more, the ratio is an underestimate


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


def main() -> None:
    machine()
    p, d = points()
    slopes = np.geomspace(0.6, 30, SLOPES)
    source = DiscreteSource(torch.from_numpy(p), torch.from_numpy(d))
    times: dict[str, float] = {}

    def timed(name: str, **options: int | bool) -> None:
        found: list[Curve] = []
        times[name] = seconds(
            lambda: found.append(
                blahut_arimoto(
                    source, torch.from_numpy(slopes), tolerance=TOLERANCE, max_iterations=MOST, **options
                )  # type: ignore[arg-type]
            )
        )
        iterations = sum(point.iterations for point in found[0].points)
        gap = max(point.gap for point in found[0].points)
        print(
            f"{name}: {times[name]:.1f} s, {iterations:,} iterations, largest gap {gap:.1e} nats", flush=True
        )

    timed("ours")
    timed("without the warm start", warm_start=False)
    timed("without acceleration", memory=0)
    results: list[tuple[int, float]] = []
    times["numpy"] = seconds(lambda: results.extend(plain(p, d, float(slope)) for slope in slopes))
    short = sum(gap > TOLERANCE for _, gap in results)
    total = sum(iterations for iterations, _ in results)
    print(f"numpy: {times['numpy']:.1f} s, {total:,} iterations, {short} slopes cut off at {MOST:,}")
    report("numpy / ours", times["numpy"] / times["ours"], 5, at_least=True)
    print(f"the warm start alone: {times['without the warm start'] / times['ours']:.2f}x")
    print(f"the acceleration alone: {times['without acceleration'] / times['ours']:.2f}x")


if __name__ == "__main__":
    main()
