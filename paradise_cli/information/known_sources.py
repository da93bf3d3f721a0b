"""Sources whose R(D) is known, as finite alphabets that Blahut-Arimoto can solve."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.information import closed_forms
from paradise_cli.information.blahut_arimoto import DiscreteSource, check_fits
from paradise_cli.information.closed_forms import ClosedForm
from paradise_cli.information.source_names import SOURCES, check_measure, check_source

GRID_STEPS = 6  # in the least distortion at which a grid stands for its density
GAUSSIAN_WIDTH = 5.0  # half the grid, in standard deviations
LAPLACIAN_WIDTH = 10.0  # half the grid, in scales
BANANA_GRID = (81, 17)  # letters along the banana and across
BANANA_WIDTH = (4.0, 3.2)  # half the grid, in standard deviations
BANANA_THICKNESS = 0.2


@dataclass(frozen=True)
class KnownSource:
    """A finite source, and its exact curve where there is one.

    Where it is a grid that stands for a density, `least_resolved` is the distortion below which it
    no longer does; else 0.
    """

    name: str
    source: DiscreteSource
    closed_form: ClosedForm | None = None
    least_resolved: float = 0.0

    @property
    def is_grid(self) -> bool:
        """Whether the source stands for a density, whose rate has no end as D goes to 0."""
        return self.least_resolved > 0

    def rate(self, distortion: float) -> float | None:
        """The exact R(D) in nats, None where it is unknown or the grid too coarse to show it."""
        if self.closed_form is None or distortion < self.least_resolved:
            return None
        return self.closed_form.rate(distortion)


def bernoulli(p: float = 0.5) -> KnownSource:
    """A coin with P(1) = p under Hamming distortion."""
    form = closed_forms.bernoulli(p)
    source = DiscreteSource(
        torch.tensor([1 - p, p], dtype=torch.float64), _between("hamming", torch.arange(2))
    )
    return KnownSource(f"bernoulli, p = {p:g}", source, form)


def uniform(m: int = 8) -> KnownSource:
    """m equally likely letters under Hamming distortion."""
    form = closed_forms.uniform(m)
    source = DiscreteSource(
        torch.full((m,), 1 / m, dtype=torch.float64), _between("hamming", torch.arange(m))
    )
    return KnownSource(f"uniform, m = {m}", source, form)


def gaussian(sigma: float = 1.0, letters: int = 401) -> KnownSource:
    """N(0, sigma^2) under squared error, on a grid of letters over 5 sigma to both sides."""
    _check_unit("sigma", sigma)
    form = closed_forms.gaussian([sigma * sigma])
    grid, edges = _grid(GAUSSIAN_WIDTH * sigma, letters)
    below = torch.special.ndtr(edges / sigma)
    source = DiscreteSource(_masses(below), _between("squared", grid))
    # D is a square: of the units of a step, times those of sigma.
    resolved = GRID_STEPS * _step(grid) * sigma
    return KnownSource(f"gaussian, sigma = {sigma:g}", source, form, resolved)


def laplacian(scale: float = 1.0, letters: int = 401) -> KnownSource:
    """Density exp(-|x| / scale) / (2 scale), absolute error, on a grid of 10 scales each side."""
    _check_unit("scale", scale)
    form = closed_forms.laplacian(scale)
    grid, edges = _grid(LAPLACIAN_WIDTH * scale, letters)
    tail = 0.5 * torch.exp(-edges.abs() / scale)
    source = DiscreteSource(
        _masses(torch.where(edges < 0, tail, 1 - tail)), _between("absolute", grid)
    )
    return KnownSource(f"laplacian, scale = {scale:g}", source, form, GRID_STEPS * _step(grid))


def banana() -> KnownSource:
    """A Gaussian in two dimensions, bent with its grid (see `bend`), under squared error."""
    axes = [_grid(half, n) for half, n in zip(BANANA_WIDTH, BANANA_GRID, strict=True)]
    letters = bend(torch.cartesian_prod(*(grid for grid, _ in axes)))  # [n, 2]
    along, across = (_masses(torch.special.ndtr(edges)) for _, edges in axes)
    # Not torch.cdist: by default it takes the distances of near letters from rounded products.
    difference = letters[:, None] - letters  # [n, n, 2]
    source = DiscreteSource(torch.outer(along, across).flatten(), difference.square().sum(2))
    resolved = GRID_STEPS * _step(axes[0][0]) ** 2  # D is a square of steps here
    return KnownSource("banana", source, least_resolved=resolved)


def bend(normal: Tensor) -> Tensor:
    """Normal (u, v), [..., 2], to the banana (u, (u^2 - 1) / sqrt(2) + 0.2 v), [..., 2]: mean 0."""
    u, v = normal.unbind(-1)
    return torch.stack([u, (u.square() - 1) / math.sqrt(2) + BANANA_THICKNESS * v], -1)


BUILDERS: dict[str, Callable[..., KnownSource]] = dict(
    zip(SOURCES, (bernoulli, uniform, gaussian, laplacian, banana), strict=True)
)


def build_source(name: str, **given: float | None) -> KnownSource:
    """A source by its name; what is None takes its default.

    Raises UsageError for an unknown name and for a parameter that this source does not have.
    """
    check_source(name)
    chosen = {key: value for key, value in given.items() if value is not None}
    known = inspect.signature(BUILDERS[name]).parameters
    for key in chosen.keys() - known.keys():
        taken = ", ".join(f"--{own}" for own in known) or "no parameters"
        raise UsageError(f"{name} has no --{key}; it takes {taken}")
    return BUILDERS[name](**chosen)


def measured(probabilities: Tensor, measure: str, letters: Tensor | None = None) -> DiscreteSource:
    """A source whose letters are reproduced by each other under a named distortion.

    `letters` [n] are their values, without them 0, 1, 2, ... Raises UsageError for another name.
    """
    check_measure(measure)
    values = torch.arange(probabilities.numel()) if letters is None else letters
    return DiscreteSource(probabilities, _between(measure, values))


def _check_unit(name: str, value: float) -> None:
    # Beyond these the square is no number, or slopes are steeper than the end of any curve.
    if not 1e-100 <= value <= 1e100:
        raise UsageError(f"{name} is a length, 1e-100 to 1e100; got {value:g}")


def _between(measure: str, values: Tensor) -> Tensor:
    """Distortion of every letter by every other, float64 [n, n]."""
    check_fits(len(values), len(values))
    difference = values.double()[:, None] - values.double()
    match measure:
        case "hamming":
            return (difference != 0).double()
        case "squared":
            return difference.square()
        case _:
            return difference.abs()


def _grid(half: float, letters: int) -> tuple[Tensor, Tensor]:
    """Letters [n], symmetric around 0, and the edges [n - 1] between their cells."""
    if letters < 2:
        raise UsageError(f"a grid needs at least 2 letters; got {letters}")
    grid = torch.linspace(-half, half, letters, dtype=torch.float64)
    return grid, (grid[1:] + grid[:-1]) / 2


def _masses(below: Tensor) -> Tensor:
    """Probability of each cell from the distribution function at the edges between them."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([ends[:1], below, ends[1:]]).diff()


def _step(grid: Tensor) -> float:
    return float(grid[1] - grid[0])
