"""`paradise rd`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from paradise_cli.cli.options import JsonOption, OverwriteOption, written
from paradise_cli.cli.output import console, note, print_json, print_table
from paradise_cli.core.ranges import MOST_NUMBERS, parse_range
from paradise_cli.core.units import counted, significant

if TYPE_CHECKING:
    from paradise_cli.information.known_sources import KnownSource
    from paradise_cli.theory.rate_distortion import RateDistortion


def complete_source(incomplete: str) -> list[str]:
    """Built-in sources that begin so."""
    from paradise_cli.information.source_names import SOURCES

    return [name for name in SOURCES if name.startswith(incomplete)]


# Every letter meets every other: what fits into memory is far less, and told once torch is there.
MOST_LETTERS = 1_000_000

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="bernoulli, uniform, gaussian, laplacian, banana, or a .npz, .json or .npy file.",
        autocompletion=complete_source,
    ),
]
Probability = Annotated[float | None, typer.Option(help="bernoulli: probability of a 1.")]
Letters = Annotated[int | None, typer.Option(max=MOST_LETTERS, help="uniform: number of letters.")]
Sigma = Annotated[float | None, typer.Option(help="gaussian: standard deviation.")]
Scale = Annotated[float | None, typer.Option(help="laplacian: mean of |x|.")]
Grid = Annotated[
    int | None, typer.Option(max=MOST_LETTERS, help="gaussian, laplacian: size of the grid.")
]
Measure = Annotated[
    str | None,
    typer.Option(help="For a file with probabilities only: hamming, squared or absolute."),
]
Slopes = Annotated[
    str | None, typer.Option(help="Slopes beta = 1 / alpha: 0.5,1,2 or first:last:count.")
]
Points = Annotated[
    int, typer.Option(min=1, max=MOST_NUMBERS, help="Without --slopes: how many points.")
]
Tolerance = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Gap between the bounds of a point, in nats.")
]
AtDistortion = Annotated[list[float] | None, typer.Option(help="Ask for R at a distortion.")]
AtRate = Annotated[list[float] | None, typer.Option(help="Ask for D at a rate, in nats.")]
Out = Annotated[
    Path | None,
    typer.Option(
        callback=written(), help="Folder for curve.csv, .json and .png; without it curves/<source>."
    ),
]


def rd(
    source: SourceArgument,
    p: Probability = None,
    m: Letters = None,
    sigma: Sigma = None,
    scale: Scale = None,
    letters: Grid = None,
    distortion: Measure = None,
    slopes: Slopes = None,
    points: Points = 20,
    tol: Tolerance = 1e-5,
    at_distortion: AtDistortion = None,
    at_rate: AtRate = None,
    out: Out = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Exact rate-distortion function of a finite source, between certified bounds.

    \b
    paradise rd bernoulli --p 0.3
    paradise rd gaussian --sigma 2 --at-distortion 0.5
    paradise rd source.npz --slopes 0.1:10:20        p [n] and d [n, m]
    paradise rd counts.json --distortion absolute    p [n], and letters x [n]
    """
    given = {"p": p, "m": m, "sigma": sigma, "scale": scale, "letters": letters}
    chosen = {f"--{name}": value for name, value in given.items() if value is not None}
    _check(source, distortion, list(chosen))
    wanted = parse_range(slopes, "--slopes") if slopes is not None else None

    # Only now what needs torch: nothing that can be said without it is left.
    known = _open(source, distortion, given)
    folder = out or Path("curves") / Path(source).stem
    asked = Asked(wanted, points, tol, at_distortion or (), at_rate or ())
    _deliver(*_solve(known, asked, folder, free=out is None, overwrite=overwrite), as_json)


class Asked(NamedTuple):
    """What is asked of a source: slopes, or how many of them, a gap, and places on the curve."""

    slopes: list[float] | None
    points: int  # where no slopes are given
    tolerance: float
    distortions: Sequence[float]
    rates: Sequence[float]


def _solve(
    known: "KnownSource", asked: Asked, usual: Path, *, free: bool, overwrite: bool
) -> tuple["RateDistortion", Path]:
    """The solved curve, and the folder in which it does not overwrite another one."""
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.theory.rate_distortion import default_slopes, place_of, question_of, solve

    slopes = asked.slopes or default_slopes(known, asked.points)
    question = question_of(known, slopes, *asked[2:])
    # Before anything is solved: an hour of work must not end in a refusal.
    folder = usual if overwrite else place_of(question, usual, free=free)
    if folder != usual:
        note(f"{usual} holds another result; this one goes to {folder}")
    with progress_bar(len(slopes), "solving") as advance:
        solved = solve(
            known,
            slopes,
            tolerance=asked.tolerance,
            distortions=asked.distortions,
            rates=asked.rates,
            progress=advance,
        )
    return solved, folder


def _deliver(solved: "RateDistortion", folder: Path, as_json: bool) -> None:
    """Write the curve and its picture, and show the one or the other."""
    from paradise_cli.figures.beside import drawing
    from paradise_cli.theory.rate_distortion import PICTURE_FILE

    solved.write(folder)
    picture = folder / PICTURE_FILE
    with drawing(picture, note):
        from paradise_cli.theory.picture import draw_curve

        draw_curve(solved, picture)
    if as_json:
        print_json(solved.to_json())
    else:
        _print(solved)
    # The bounds still hold; they are only further apart than was asked for.
    if solved.unfinished:
        worst = max(point.gap for point in solved.unfinished)
        note(
            f"note: {counted(len(solved.unfinished), 'point')} stopped at gaps up to {worst:.1e}"
            " nats, short of --tol"
        )
    pictured = f", {PICTURE_FILE}" if picture.exists() else ""
    note(f"{folder}: curve.csv, curve.json{pictured}")


def _check(source: str, distortion: str | None, options: list[str]) -> None:
    """Raise what can be said of the arguments before torch is loaded."""
    from paradise_cli.core.errors import UsageError
    from paradise_cli.core.inputs import require_files
    from paradise_cli.information.source_names import KINDS, check_measure, check_source

    # Built-in sources have plain names; whatever has a suffix is meant as a file.
    if not Path(source).suffix:
        check_source(source)
        if distortion is not None:
            raise UsageError(f"--distortion is for files; {source} has its own")
        return
    require_files(Path(source))
    if Path(source).suffix not in KINDS:
        raise UsageError(f"{source}: the name of a source's file ends in {' or '.join(KINDS)}")
    # An option that a file cannot follow must not be left aside in silence.
    if options:
        raise UsageError(f"{options[0]} is for built-in sources; {source} is a file")
    if distortion is not None:
        check_measure(distortion)


def _open(source: str, distortion: str | None, given: dict[str, float | None]) -> "KnownSource":
    from paradise_cli.information.known_sources import build_source
    from paradise_cli.theory.distribution_files import read_source

    if Path(source).suffix:
        return read_source(Path(source), distortion)
    return build_source(source, **given)


def _print(solved: "RateDistortion") -> None:
    """The curve as a table, in the columns of the CSV file but for the iterations."""
    rows = [
        [
            "D_min" if row["slope"] is None else f"{row['slope']:.4g}",
            # In significant digits: D is in the user's unit, and may be of any size.
            f"{row['distortion']:.4g}",
            *(_rate(row[name]) for name in ("lower_nats", "upper_nats")),
            f"{row['gap_nats']:.0e}",
            *(_rate(row[name]) for name in ("lower_bits", "upper_bits", "closed_form_nats")),
        ]
        for row in solved.rows()
    ]
    columns = ["slope", "D", "R >=", "R <=", "gap", "bits >=", "bits <=", "exact"]
    print_table(
        f"{solved.known.name}: R(D) in nats, 0 from D_max = {solved.curve.d_max:.6g} on",
        columns,
        rows,
    )
    # Below the table, where the eye is when the command ends.
    for answer in solved.answers:
        other = "R in nats" if answer.asked == "distortion" else "D"
        low, high = (significant(end, 6) for end in (answer.lower, answer.upper))
        console.print(f"at {answer.asked} {answer.at:g}: {other} between {low} and {high}")


def _rate(value: float | None) -> str:
    # Of a source that is nearly certain it is small, and not 0.
    return "" if value is None else significant(value, 5)
