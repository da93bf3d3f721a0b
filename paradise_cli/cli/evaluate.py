"""`paradise evaluate`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paradise_cli.cli.output import console, note, print_json

if TYPE_CHECKING:
    from paradise_cli.evaluation import Evaluation
    from paradise_cli.metrics import Classification, Distortion, Proportion

BITS = 1 / math.log(2)


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, a weights file, or a name from the zoo.")],
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set than the one of the model's recipe.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change the data section: data.root=FOLDER."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the noise in z.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Accuracy, calibration, distortion and exact rate of a model, with intervals.

    \b
    paradise evaluate runs/digits
    paradise evaluate model.safetensors --split validation --json
    paradise evaluate runs/photos --data image_folder --set data.root=holiday/
    """
    from paradise_cli import evaluation
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.evaluation_data import open_split
    from paradise_cli.loading import load
    from paradise_cli.storage import write_json
    from paradise_cli.training.hardware import choose_device

    loaded = load(model, device)
    opened = open_split(
        loaded.recipe, loaded.info, split=split, data=data, overrides=overrides or (), source=loaded.source
    )
    for line in opened.notes:
        note(f"note: {line}")
    total = len(opened.split) * (2 if loaded.model.stochastic else 1)
    with progress_bar(total, "evaluating") as advance:
        measured = evaluation.evaluate(
            loaded.model, loaded.recipe, loaded.info, opened.split,
            device=choose_device(device), data=opened.label, seed=seed, progress=advance,
        )  # fmt: skip
    if out is not None:
        write_json(out, measured.to_json())
    if as_json:
        print_json(measured.to_json())
    else:
        print_evaluation(measured)


def print_evaluation(evaluation: "Evaluation") -> None:
    """The measurements as a table on stdout."""
    from rich.table import Table
    from rich.text import Text

    unlabelled = f", {evaluation.unlabelled:,} unlabelled" if evaluation.unlabelled else ""
    title = f"{evaluation.data}: {evaluation.n:,} images{unlabelled}"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for column, justify in (("what", "left"), ("value", "right"), ("95% interval, unit or bound", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    sections = [
        *(_classification(c, len(evaluation.classification) > 1) for c in evaluation.classification),
        [row for d in evaluation.distortion for row in _distortion(d, len(evaluation.distortion) > 1)],
        _rate(evaluation),
        _latents(evaluation),
    ]
    for rows in sections:
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        table.add_section()
    console.print(table)


Row = tuple[str, str, str]


def _classification(scores: "Classification", several: bool) -> list[Row]:
    of = f" ({scores.task}, n = {scores.n:,})" if several else ""
    rows = [(f"accuracy{of}", f"{scores.top1.value:.2%}", _interval(scores.top1))]
    if scores.top5 is not None:
        rows.append((f"top-5 accuracy{of}", f"{scores.top5.value:.2%}", _interval(scores.top5)))
    rows.append((f"log loss (NLL){of}", *_nats(scores.nll)))
    rows.append((f"calibration error (ECE){of}", f"{scores.ece:.4f}", ""))
    rows.append((f"Brier score{of}", f"{scores.brier:.4f}", ""))
    return rows


def _distortion(distortion: "Distortion", several: bool) -> list[Row]:
    of = f" ({distortion.task})" if several else ""

    def row(what: str, value: float) -> Row:
        name = f"distortion{of}, {what}"
        if distortion.unit == "nats":
            return (name, *_nats(value))
        return (name, f"{value:.4f}", distortion.unit)

    return [row("sampled z", distortion.sampled), row("mean z", distortion.mean)]


def _rate(evaluation: "Evaluation") -> list[Row]:
    rate = evaluation.rate
    if rate is None:
        return [("rate", "-", evaluation.rate_note or "")]
    low, high = (rate.nats + side * 1.96 * rate.standard_error for side in (-1, 1))
    cap = f"at most log n = {rate.cap:.4f} nats"
    rows = [
        ("exact rate", f"{rate.nats:.4f} nats", f"{low:.4f} to {min(high, rate.cap):.4f}"),
        ("", f"{rate.nats * BITS:.4f} bits", cap),
    ]
    trained = evaluation.training_rate
    if trained is not None:
        cap = f", at most {trained.cap:.4f}" if trained.cap is not None else ""
        bound = f"{trained.bound} bound of {trained.of}{cap}"
        rows.append((f"rate as trained, q: {trained.q}", f"{trained.nats:.4f} nats", bound))
    elif evaluation.training_rate_note is not None:
        rows.append(("rate as trained", "-", evaluation.training_rate_note))
    return rows


def _latents(evaluation: "Evaluation") -> list[Row]:
    latents = evaluation.latents
    sigma = "-" if latents.relative_sigma is None else f"{latents.relative_sigma:.4g}"
    return [
        ("active dimensions", f"{latents.active} of {latents.dimensions}", ""),
        ("relative sigma", sigma, "sigma / std of mu"),
    ]


def _interval(share: "Proportion") -> str:
    return f"{share.low:.2%} to {share.high:.2%}"


def _nats(value: float) -> tuple[str, str]:
    return f"{value:.4f} nats", f"{value * BITS:.4f} bits"
