"""Tables of three columns, and the rows that more than one command prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from paradise_cli.cli.output import console, plain
from paradise_cli.core.units import BITS, END_DIGITS, significant

if TYPE_CHECKING:
    from paradise_cli.information.latents import Latents
    from paradise_cli.information.rate_interval import RateInterval

Row = tuple[str, str, str]


def print_sections(title: str, columns: Row, sections: Sequence[Sequence[Row]]) -> None:
    """A table on stdout, its sections ruled apart."""
    table = Table(title=plain(title), title_style="bold", title_justify="left")
    for column, justify in zip(columns, ("left", "right", "left"), strict=True):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for rows in sections:
        for row in rows:
            table.add_row(*(plain(cell) for cell in row))
        table.add_section()
    console.print(table)


def rate_rows(rate: "RateInterval") -> list[Row]:
    """The two intervals of a rate, and the value drawn with its own error."""
    exact, population, empirical = rate.exact, rate.population, rate.empirical
    low, high = (significant(bits, END_DIGITS) for bits in population.bits)
    by = f"{low} to {high} bits; ends: {population.by}"
    # Bounds without the noise of z can exclude the value that was drawn.
    outside = not empirical.lower <= exact.nats <= empirical.upper
    ends = (
        f"certified: {significant(empirical.lower)} to {significant(empirical.upper)} nats; ends:"
        f" {empirical.by}"
        f"{'; more --draws bring the value between them' if outside else ''}"
    )
    cap = significant(exact.cap)
    error = f"standard error {exact.standard_error:.2g} nats; at most log N = {cap}"
    in_nats, in_bits = nats(exact.nats)
    return [
        ("rate I(X;Z)", str(population), by),
        (f"exact rate I_N, N = {exact.n:,}", in_nats, error),
        ("", in_bits, ends),
    ]


def bound_rows(rate: "RateInterval") -> list[Row]:
    """Every bound of a rate, and after its margin what it says of which information."""
    rows = []
    for bound in rate.bounds:
        # A bound says `at least` or `at most` of its estimand; a point says neither.
        sign = {"lower": " >= ", "upper": " <= ", "point": ": "}[bound.side]
        end = "a point, no bound" if bound.end is None else significant(bound.end)
        cap = "" if bound.cap is None else f" (cap {significant(bound.cap)})"
        rows.append((bound.name, nats(bound.nats)[0], f"{bound.estimand}{sign}{end}{cap}"))
    return rows


def latent_rows(latents: "Latents") -> list[Row]:
    """Active and concentric dimensions, and relative sigma."""
    # Without a unit: sigma alone means nothing, as the scale of z is free.
    sigma = "-" if latents.relative_sigma is None else f"{latents.relative_sigma:.4g}"
    concentric = (
        f"{latents.concentric} more are concentric: they differ in sigma, not in mean"
        if latents.concentric
        else ""
    )
    return [
        ("active dimensions", f"{latents.active} of {latents.dimensions}", concentric),
        ("relative sigma", sigma, "sigma / std of mu"),
    ]


def nats(value: float) -> tuple[str, str]:
    """A value in nats, and in bits."""
    return f"{significant(value)} nats", f"{significant(value * BITS)} bits"
