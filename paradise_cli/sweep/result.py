"""What a sweep measured: a table of its runs, and for each frontier what holds of it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paradise_cli.core.storage import write_numbers
from paradise_cli.figures.beside import drawing
from paradise_cli.information.frontier import FrontierCheck, FrontierPoint, Slope
from paradise_cli.theory.exact_curves import ExactCurve


@dataclass(frozen=True)
class Frontier:
    """The points of one group, a mean over seeds each, and what holds of them.

    `entropy` is H(Y) of the measured labels in nats, None where D is not the cross-entropy of one
    label.
    """

    group: tuple[tuple[str, str], ...]
    points: tuple[FrontierPoint, ...]
    checks: tuple[FrontierCheck, ...]
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

    @property
    def files(self) -> tuple[str, str, str]:
        """Names of the table, the JSON object and the picture."""
        # Numbers of other images are no newer ones of the same.
        suffix = "" if self.split == "test" else f"-{self.split}"
        return f"sweep{suffix}.csv", f"sweep{suffix}.json", f"frontier{suffix}.png"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "recipe": self.name,
            "data": self.data,
            "split": self.split,
            "n": self.n,
            # D is in the unit of the objective, which is no nats for images and values.
            "distortion_unit": self.unit,
            "runs": [_finite(row) for row in self.rows],
            "frontiers": [
                {
                    "settings": dict(each.group),
                    "points": [_finite(asdict(point)) for point in each.points],
                    "checks": [asdict(check) for check in each.checks],
                    "slopes": [_finite(asdict(slope)) for slope in each.slopes],
                    # The curve itself is a function: its name says which one was compared with.
                    "exact_curve": each.exact and each.exact.name,
                    "label_entropy": each.entropy,
                }
                for each in self.frontiers
            ],
            "warnings": list(self.warnings),
            "failed": [{"run": name, "error": error} for name, error in self.failed],
        }

    def write(self, folder: Path, say: Callable[[str], None]) -> Path:
        """The table and the JSON object, as `write_numbers`, and the picture, whose path is given.

        `say` is told why it could not be drawn, if so.
        """
        table, document, picture = (folder / name for name in self.files)
        write_numbers(document, self.to_json(), table, self.rows, picture)
        with drawing(picture, say):
            # Loads matplotlib.
            from paradise_cli.sweep.picture import draw_frontier

            draw_frontier(self, picture)
        return picture


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    """A row with null in place of infinite numbers, which JSON has not."""

    def plain(number: Any) -> Any:
        return None if isinstance(number, float) and not math.isfinite(number) else number

    return {key: plain(number) for key, number in value.items()}
