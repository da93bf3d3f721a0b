"""Blahut-Arimoto: R(D) of a finite source between certified bounds (method.md 1.1, 1.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.resources import physical_memory
from paradise_cli.information.envelope import Curve, Point

CELLS = 2**22  # of the kernels solved at a time: 32 MiB in float64
LEAST = (
    -600.0
)  # log of the least weight of a letter: it can still revive, and its exponential is not 0
# share of the uniform start in a warm one: letters that the last slope dropped may be needed
MIXED = 0.5
SUM_ERROR = 2e-6  # of the probabilities: float32, or written with six digits
MATRICES = 6  # of the distortion's size that solving holds at once
STEEPEST = 1e300  # a slope that gives the end of a curve of distortions near 1
ROUNDING = 1e-13  # relative, that the ascent may lose in one step
RIDGE = 1e-10  # of the least-squares problem of the acceleration, relative


@dataclass(frozen=True)
class DiscreteSource:
    """A source: probabilities [n] and the distortion [n, m] of m reproduction letters, float64.

    Raises UsageError for probabilities that are negative or do not sum to one, distortions that are
    negative or not finite, and shapes that do not fit.
    """

    probabilities: Tensor
    distortion: Tensor

    def __post_init__(self) -> None:
        p, d = self.probabilities, self.distortion
        if p.ndim != 1 or d.ndim != 2 or len(p) != len(d) or d.numel() == 0:
            raise UsageError(
                f"probabilities {list(p.shape)} and distortion {list(d.shape)} do not fit: expected"
                " [n] and [n, m], a row of distortions for each source letter"
            )
        unlikely = ~(p.isfinite() & (p >= 0))
        if bool(unlikely.any()):
            raise UsageError(
                f"probabilities must be numbers >= 0; number {_first(unlikely)} is not"
            )
        total = float(p.sum())
        if abs(total - 1) > SUM_ERROR:
            raise UsageError(
                f"probabilities must sum to 1; these sum to {total:.12g}: divide them by that"
            )
        wrong = ~(d.isfinite() & (d >= 0))
        if bool(wrong.any()):
            i, j = wrong.nonzero()[0].tolist()
            raise UsageError(
                f"distortions must be finite and >= 0; d[{i}, {j}] is {float(d[i, j])} (what must"
                " never happen is a distortion far above all others, such as 1e6)"
            )

    def supported(self) -> tuple[Tensor, Tensor]:
        """Probabilities, summing to one exactly, and distortions of the letters that occur."""
        occurs = self.probabilities > 0
        p = self.probabilities[occurs]
        return p / p.sum(), self.distortion[occurs]


def steepest(source: DiscreteSource) -> float:
    """A slope that gives the end of the curve itself, D_min and the rate there, in any unit of D.

    Its product with a distortion is finite.
    """
    return STEEPEST / max(1.0, float(source.distortion.max()))


def check_fits(n: int, m: int) -> None:
    """Raise UsageError where alphabets of n and m letters need more than this machine's memory."""
    need, have = MATRICES * n * m * 8, physical_memory()
    if need > have:
        raise UsageError(
            f"alphabets of {n:,} and {m:,} letters need about {need / 2**30:,.0f} GiB and this"
            f" machine has {have / 2**30:,.0f}: use fewer letters, or a coarser grid"
        )


def _first(wrong: Tensor) -> int:
    return int(wrong.nonzero()[0, 0])


@torch.no_grad()
def blahut_arimoto(
    source: DiscreteSource,
    slopes: Tensor,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 5000,
    memory: int = 8,
    warm_start: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Points of R(D) where it has slope -beta, each between bounds that differ by `tolerance` nats.

    `slopes` [S] are the betas > 0, in nats per unit of distortion: 1 / alpha of the neural
    objective. Where `max_iterations` do not suffice, the gap that was reached is returned. `memory`
    past iterates accelerate the iteration (Anderson; 0 is the plain one), a step that loses is
    taken again plainly. A slope starts from the solution of a larger one. `progress` is called with
    how many slopes are done. Time O(S n m) an iteration, on the source's device. Raises UsageError
    for slopes that are not positive and finite.
    """
    slopes = slopes.double().to(source.distortion.device)
    if slopes.ndim != 1 or len(slopes) == 0 or not bool((slopes.isfinite() & (slopes > 0)).all()):
        raise UsageError("slopes must be a non-empty list of numbers > 0 (beta = 1 / alpha)")
    p, d = source.supported()
    check_fits(*d.shape)
    start = uniform = torch.full((1, d.shape[1]), 1 / d.shape[1], dtype=d.dtype, device=d.device)
    points: list[Point] = []
    for chunk in torch.split(slopes.sort(descending=True).values, max(1, CELLS // d.numel())):
        ascent = _Ascent(p, d, chunk, start.log(), memory)
        ascent.run(tolerance, max_iterations)
        points += ascent.points()
        if warm_start:
            start = (1 - MIXED) * ascent.log_q[-1:].exp() + MIXED * uniform
        if progress:
            progress(len(chunk))
    return Curve(
        tuple(sorted(points)), d_min=float(p @ d.min(1).values), d_max=float((p @ d).min())
    )


class _Ascent:
    """Blahut-Arimoto at several slopes at once: the ascent of sum_i p_i log Z_i in log q.

    Z_i = sum_j q_j exp(-beta (d_ij - min_j d_ij)): the shift keeps the row's best letter at 1, so
    that with q >= exp(LEAST) nothing overflows and Z_i is never 0, however large beta d is.
    """

    def __init__(self, p: Tensor, d: Tensor, slopes: Tensor, log_q: Tensor, memory: int) -> None:
        self.p, self.slopes = p, slopes
        least = d.min(1, keepdim=True).values
        self.excess, self.d_min = d - least, p @ least[:, 0]
        self.kernel = torch.exp(-slopes[:, None, None] * self.excess)  # [S, n, m]
        # A row times a matrix is several times faster than a matrix times a column.
        self.transposed = self.kernel.mT.contiguous()
        self.log_q = log_q.repeat(len(slopes), 1)  # [S, m]
        self.iterations = torch.zeros(len(slopes), dtype=torch.int64, device=d.device)
        self.memory = memory

    def run(self, tolerance: float, max_iterations: int) -> None:
        """Iterate until every gap is below the tolerance; slopes that are done are left out."""
        alive = torch.arange(len(self.slopes), device=self.p.device)
        kernel, transposed, log_q = self.kernel, self.transposed, self.log_q.clone()
        value, log_c = self._evaluate(kernel, transposed, log_q)
        past = _Past(log_q, self.memory)
        for _ in range(max_iterations):
            going = _gap(log_q, log_c) > tolerance
            if not bool(going.all()):
                self.log_q[alive] = log_q
                if not bool(going.any()):
                    return
                alive, kernel, transposed = alive[going], kernel[going], transposed[going]
                log_q = log_q[going]
                value, log_c = value[going], log_c[going]
                past.keep(going)
            candidate = _normalised(log_q + log_c - past.correction(log_q, log_c))
            new_value, new_log_c = self._evaluate(kernel, transposed, candidate)
            better = new_value >= value - ROUNDING * (1 + value.abs())
            past.add(candidate - log_q, new_log_c - log_c, better)
            log_q = torch.where(better[:, None], candidate, log_q)
            log_c = torch.where(better[:, None], new_log_c, log_c)
            value = torch.where(better, new_value, value)
            self.iterations[alive] += 1
        self.log_q[alive] = log_q

    def _evaluate(self, kernel: Tensor, transposed: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i p_i log Z_i, [S], and log c_j, [S, m]: a plain step is log q + log c."""
        z = torch.bmm(log_q.exp()[:, None, :], transposed)[:, 0]  # [S, n]
        c = torch.bmm((self.p / z)[:, None, :], kernel)[:, 0]  # [S, m]
        return z.log() @ self.p, c.clamp_min(1e-300).log()

    def points(self) -> list[Point]:
        """Bounds and distortion, all of the last iterate."""
        value, log_c = self._evaluate(self.kernel, self.transposed, self.log_q)
        q = self.log_q.exp()
        z = torch.bmm(q[:, None, :], self.transposed)[:, 0]  # [S, n]
        excess = (torch.einsum("snm,nm,sm->sn", self.kernel, self.excess, q) / z) @ self.p
        upper = -self.slopes * excess - value - (q * log_c.exp() * log_c).sum(1)
        gap = _gap(self.log_q, log_c)
        columns = (self.slopes, self.d_min + excess, upper - gap, upper, gap, self.iterations)
        return [Point(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


class _Past:
    """Differences of the last iterates, for Anderson acceleration (Walker & Ni 2011)."""

    def __init__(self, log_q: Tensor, memory: int) -> None:
        self.step = log_q.new_zeros(len(log_q), memory, log_q.shape[1])  # [S, H, m]
        self.change = torch.zeros_like(self.step)  # of log c
        self.newest = 0

    def keep(self, going: Tensor) -> None:
        self.step, self.change = self.step[going], self.change[going]

    def add(self, step: Tensor, change: Tensor, better: Tensor) -> None:
        """Remember a step; where it lost, forget everything, so that the next one is plain."""
        if not self.step.shape[1]:
            return
        self.step[:, self.newest], self.change[:, self.newest] = step, change
        self.newest = (self.newest + 1) % self.step.shape[1]
        self.step *= better[:, None, None]
        self.change *= better[:, None, None]

    def correction(self, log_q: Tensor, log_c: Tensor) -> Tensor:
        """What to take off log q + log c so that the new log c is smallest, to first order; [S, m].

        Letters count by their weight q: those that vanish have a log c that never goes to 0.
        """
        if not self.step.shape[1]:
            return torch.zeros_like(log_q)
        weighted = self.change * log_q.exp()[:, None]
        gram = weighted @ self.change.mT  # [S, H, H]
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).sum(1) + 1e-300  # empty places are zero
        gram.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        share = torch.linalg.solve(gram, (weighted @ log_c[:, :, None])[:, :, 0])  # [S, H]
        correction: Tensor = (share[:, None] @ (self.step + self.change))[:, 0]
        return correction


def _gap(log_q: Tensor, log_c: Tensor) -> Tensor:
    """Upper minus lower bound of R(D), nats [S] (method.md 1.2: the maximum over all letters)."""
    return (log_c.amax(1) - (log_q.exp() * log_c.exp() * log_c).sum(1)).clamp_min(0.0)


def _normalised(log_q: Tensor) -> Tensor:
    return (log_q - log_q.logsumexp(1, keepdim=True)).clamp_min(LEAST)
