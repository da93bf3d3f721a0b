"""What each image costs, how large its posterior is, and how well it is kept."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paradise_cli.core.proportions import NORMAL_95
from paradise_cli.core.units import BITS, significant
from paradise_cli.data.base import DataInfo, Split, Target, batches
from paradise_cli.evaluation.cost_table import Column, Table, check_out, picture_of, write_table
from paradise_cli.evaluation.evaluate import Measurement
from paradise_cli.figures.beside import Say, drawing
from paradise_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from paradise_cli.figures.captioned import Block

CLAIM = "harder examples are mapped to smaller posteriors"  # paper section 3.1
FEWEST = 10  # pairs, below which the interval of a rank correlation means little
METHOD = (
    "Spearman; Fisher's z with standard error sqrt((1 + rho^2 / 2) / (n - 3)) (Bonett"
    " and Wright 2000)"
)
SHOWN = 16  # two rows of a picture


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of the distortion and a `column`, over n images, with its 95% interval."""

    column: str
    n: int
    rho: float
    low: float
    high: float


@dataclass(frozen=True)
class ImageCosts:
    """What was written, and how the column `distortion`, the first task's at z = mu, goes with
    others.

    There is no picture where images have no rate, no `distortion` where no image has one, and no
    correlation where one of the two is the same for all.
    """

    table: Path
    picture: Path | None
    distortion: str | None
    correlations: tuple[RankCorrelation, ...]
    method: str = METHOD
    claim: str = CLAIM

    @property
    def verdict(self) -> str:
        """Whether the claim holds, as far as the interval leaves no doubt."""
        found = next((found for found in self.correlations if found.column == "log_volume"), None)
        if found is None:
            return "cannot be told"
        if found.low <= 0 <= found.high:
            return "undecided"
        return "holds" if found.high < 0 else "does not hold: they are mapped to larger ones"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        picture = self.picture and str(self.picture)
        return asdict(self) | {
            "table": str(self.table),
            "picture": picture,
            "verdict": self.verdict,
        }


def write_image_costs(
    measured: Measurement,
    recipe: Recipe,
    info: DataInfo,
    split: Split,
    out: Path,
    say: Say | None = None,
) -> ImageCosts:
    """Write the `per_example` table, and beside it as PNG the images that cost most and least.

    `split` and `info` are those that were measured. Raises as `check_out`.
    """
    check_out(out)
    table = per_example(measured, info, split)
    write_table(table, out)
    picture = None
    # Without rates no image is more expensive than another.
    if measured.rates is not None:
        wanted = picture_of(out)
        with drawing(wanted, say):
            from paradise_cli.figures.captioned import draw_captioned

            title = measured.evaluation.title(recipe)
            draw_captioned(_extremes(table, measured, info, split), wanted, title)
            picture = wanted
    distortion = next(
        (f"distortion_{found.task}_mean" for found in measured.evaluation.distortion), None
    )
    correlations: tuple[RankCorrelation, ...] = ()
    if distortion is not None:
        found = (
            rank_correlation(table, distortion, column) for column in ("log_volume", "rate_bits")
        )
        correlations = tuple(correlation for correlation in found if correlation is not None)
    return ImageCosts(out, picture, distortion, correlations)


def per_example(measured: Measurement, info: DataInfo, split: Split) -> Table:
    """One row for each image, in the split's order.

    `id`; `label_<target>`, a class; of each supervised task `predicted_<task>`, a class, and
    `correct_<task>`, both at z = mu; `rate_nats` and `rate_bits`, log p(z|x) - log q(z) averaged
    over the exact rate's draws of z, with q the mixture of all N posteriors: their mean is the
    exact rate; `log_volume`, the sum of log sigma over latent dimensions: the log volume of an
    ellipsoid of any fixed probability, in nats, up to a constant of the dimension;
    `distortion_<task>_sampled` and `distortion_<task>_mean` (z = mu) in the task's unit. A
    deterministic encoder has no rate and no volume.
    """
    # In the order in which a reader asks: which image, what it is, what it costs, how it fares.
    table = {"id": Column("string", list(split.ids))}
    for target, labels in zip(info.targets, split.labels.unbind(1), strict=True):
        table[f"label_{target.name}"] = _names(labels, target)
    found = [(score.task, score.per_example()) for score in measured.scores]
    for task, values in found:
        if values.predicted is not None and values.correct is not None:
            table[f"predicted_{task.name}"] = _names(values.predicted, info.targets[task.target])
            table[f"correct_{task.name}"] = _truths(values.correct)
    # A deterministic encoder: columns stay, so that every table has the same ones.
    nowhere = torch.full((len(split),), math.nan)
    rates = nowhere if measured.rates is None else measured.rates.mean(0)
    table["rate_nats"], table["rate_bits"] = _numbers(rates), _numbers(rates * BITS)
    table["log_volume"] = _numbers(measured.posterior.double().log_volume())
    for task, values in found:
        table[f"distortion_{task.name}_sampled"] = _numbers(values.at_sample)
        table[f"distortion_{task.name}_mean"] = _numbers(values.at_mean)
    return table


def rank_correlation(table: Table, distortion: str, column: str) -> RankCorrelation | None:
    """The rank correlation of two columns of numbers.

    None where fewer than 10 images have both, or where one column never changes.
    """
    from scipy.stats import spearmanr

    both = zip(table[distortion].values, table[column].values, strict=True)
    pairs = [pair for pair in both if None not in pair]
    n = len(pairs)
    if n < FEWEST or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    rho = float(spearmanr(pairs).statistic)
    # Fisher's z is nearly normal, whatever rho; at the ends it is infinite.
    centre = math.atanh(rho) if abs(rho) < 1 else math.copysign(math.inf, rho)
    half = NORMAL_95 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return RankCorrelation(column, n, rho, math.tanh(centre - half), math.tanh(centre + half))


def _numbers(values: Tensor) -> Column:
    # A distortion of exactly nothing may be -0.0, as a sum of logarithms of 1 is.
    found = [value + 0.0 if math.isfinite(value) else None for value in values.tolist()]
    return Column("double", found)


def _truths(values: Tensor) -> Column:
    return Column(
        "bool", [None if value is None else bool(value) for value in _numbers(values).values]
    )


def _names(numbers: Tensor, target: Target) -> Column:
    return Column("string", [target.classes[i] if i >= 0 else None for i in numbers.tolist()])


def _extremes(table: Table, measured: Measurement, info: DataInfo, split: Split) -> "list[Block]":
    """The most and the least expensive images, with their cost and the class predicted."""
    from paradise_cli.figures.captioned import Block

    assert measured.rates is not None
    # Stable: of equal costs the first images are shown, on every machine.
    order = measured.rates.mean(0).cpu().argsort(stable=True)
    most = (
        f"at most log N = {math.log(len(order)) * BITS:.1f} bits; draws of z: {len(measured.rates)}"
    )
    bits = table["rate_bits"].values
    labels, predicted = _classes(table, measured, info)

    def block(which: str, rows: Tensor) -> "Block":
        numbers = rows.tolist()
        wrong = [labels[i] is not None and predicted[i] != labels[i] for i in numbers]
        captions = [
            f"{significant(bits[i], 3)} bits\n{predicted[i] or ''}"
            + (f"\ntrue: {labels[i]}" if mistaken else "")
            for i, mistaken in zip(numbers, wrong, strict=True)
        ]
        heading = f"The {len(numbers)} {which} expensive images ({most})"
        return Block(heading, _images(split, rows), captions, wrong)

    count = min(SHOWN, len(order) // 2)  # no image is both
    return [block("most", order.flip(0)[:count]), block("least", order[:count])]


def _classes(table: Table, measured: Measurement, info: DataInfo) -> tuple[list[Any], list[Any]]:
    """Each image's class and the predicted one, which are the same without a classifier."""
    task = next((score.task for score in measured.scores if score.task.distortion.supervised), None)
    if task is not None:
        label = f"label_{info.targets[task.target].name}"
        return table[label].values, table[f"predicted_{task.name}"].values
    label = f"label_{info.targets[0].name}" if info.targets else ""
    values = table[label].values if label else [None] * len(table["id"].values)
    return values, values


def _images(split: Split, rows: Tensor) -> Tensor:
    cpu = torch.device("cpu")
    return torch.cat(
        [batch.images for batch in batches(split, order=rows, batch_size=SHOWN, device=cpu)]
    )
