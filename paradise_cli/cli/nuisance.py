"""What `paradise evaluate --nuisance` adds: progress, a table and a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from paradise_cli.cli.output import note, print_table
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.core.proportions import Proportion
    from paradise_cli.evaluation.evaluate import Measurement
    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.evaluation.nuisance import Nuisance
    from paradise_cli.inference.loading import LoadedModel


def require_pictures(loaded: "LoadedModel") -> None:
    """Raise UsageError for a model of data that are no pictures, before any are read."""
    from paradise_cli.evaluation.nuisance import check_pictures

    check_pictures(loaded.info)


def under_nuisance(
    loaded: "LoadedModel",
    opened: "EvaluationData",
    measured: "Measurement",
    seed: int,
) -> "Nuisance":
    """Measure the model under every sampler."""
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.evaluation.nuisance import measure_nuisance, passes

    # Where `measure` has brought the model.
    device = loaded.model.mu.weight.device
    with progress_bar(len(opened.split) * passes(), "nuisance") as advance:
        found = measure_nuisance(
            loaded.model, measured, opened.split, device=device, seed=seed, progress=advance
        )
    return found


def nuisance_picture(out: Path | None, asked: bool) -> Path | None:
    """Where it is drawn: beside a `result.json` as `result.nuisance.png`, else nowhere."""
    return out.with_suffix(".nuisance.png") if out is not None and asked else None


def draw_nuisance(found: "Nuisance | None", picture: Path | None) -> None:
    """What was found as a picture."""
    if found is None or picture is None:
        return
    from paradise_cli.figures.beside import drawing

    with drawing(picture, note):
        from paradise_cli.evaluation.nuisance_picture import draw_nuisance as draw

        draw(found, picture)
        note(f"{picture}: the same as a picture")


def print_nuisance(found: "Nuisance") -> None:
    """A row for each sampler at each strength, on stdout."""
    columns = ["sampler, up to"]
    columns += ["flips, %"] if found.task is not None else []
    columns += ["accuracy, %"] if found.accuracy is not None else []
    columns += ["posterior shift"]
    rows = []
    for row in found.rows:
        shares = [share for share in (row.flip_rate, row.accuracy) if share is not None]
        cells = [f"{row.sampler}, {row.strength}", *map(_percent, shares)]
        # The interval of a mean is symmetric, that of a share is not; of one image there is none.
        half = f" ± {(row.shift.high - row.shift.low) / 2:.3f}" if found.n > 1 else ""
        rows.append([*cells, f"{row.shift.value:.3f}{half}"])
    clean = "" if found.accuracy is None else f"; accuracy without any: {_percent(found.accuracy)}"
    print_table(f"nuisance, {counted(found.n, 'image')}{clean}", columns, rows)
    note(
        "flips: images whose class at z = mu changes; posterior shift: L1 distance of p(z|S(x))"
        " from p(z|x), in standard deviations of mu; in brackets and after ±: 95% intervals"
    )
    if found.note is not None:
        note(f"note: {found.note}")


def _percent(share: "Proportion") -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f}-{100 * share.high:.1f})"
