"""`paradise evaluate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from paradise_cli.cli.options import DeviceOption, JsonOption, OutOption, OverridesOption, SeedOption
from paradise_cli.cli.output import deliver, note
from paradise_cli.cli.tables import Row, latent_rows, nats, print_sections, rate_rows

if TYPE_CHECKING:
    from paradise_cli.evaluation import Evaluation
    from paradise_cli.metrics import Classification, Distortion, Proportion


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, a weights file, or a name from the zoo.")],
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set than the one of the model's recipe.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy, calibration, distortion and rate of a model, with intervals.

    \b
    paradise evaluate runs/digits
    paradise evaluate model.safetensors --split validation --json
    paradise evaluate runs/photos --data image_folder --set data.root=holiday/
    """
    from paradise_cli import evaluation
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.evaluation_data import open_split
    from paradise_cli.loading import load
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
    deliver(measured.to_json(), out, as_json, lambda: print_evaluation(measured))


def print_evaluation(evaluation: "Evaluation") -> None:
    """The measurements as a table on stdout."""
    unlabelled = f", {evaluation.unlabelled:,} unlabelled" if evaluation.unlabelled else ""
    print_sections(
        f"{evaluation.data}: {evaluation.n:,} images{unlabelled}",
        ("what", "value", "95% interval, unit or bound"),
        [
            *(_classification(c, len(evaluation.classification) > 1) for c in evaluation.classification),
            [row for d in evaluation.distortion for row in _distortion(d, len(evaluation.distortion) > 1)],
            _rate(evaluation),
            latent_rows(evaluation.latents),
        ],
    )
    if evaluation.rate is not None and evaluation.rate.warning is not None:
        note(f"rate: {evaluation.rate.warning}")


def _classification(scores: "Classification", several: bool) -> list[Row]:
    of = f" ({scores.task}, n = {scores.n:,})" if several else ""
    rows = [(f"accuracy{of}", f"{scores.top1.value:.2%}", _interval(scores.top1))]
    if scores.top5 is not None:
        rows.append((f"top-5 accuracy{of}", f"{scores.top5.value:.2%}", _interval(scores.top5)))
    rows.append((f"log loss (NLL){of}", *nats(scores.nll)))
    rows.append((f"calibration error (ECE){of}", f"{scores.ece:.4f}", ""))
    rows.append((f"Brier score{of}", f"{scores.brier:.4f}", ""))
    return rows


def _distortion(distortion: "Distortion", several: bool) -> list[Row]:
    of = f" ({distortion.task})" if several else ""

    def row(what: str, value: float) -> Row:
        name = f"distortion{of}, {what}"
        if distortion.unit == "nats":
            return (name, *nats(value))
        return (name, f"{value:.4f}", distortion.unit)

    return [row("sampled z", distortion.sampled), row("mean z", distortion.mean)]


def _rate(evaluation: "Evaluation") -> list[Row]:
    if evaluation.rate is None:
        return [("rate", "-", evaluation.rate_note or "")]
    rows = rate_rows(evaluation.rate)
    trained = evaluation.training_rate
    if trained is not None:
        cap = f", at most {trained.cap:.4f}" if trained.cap is not None else ""
        bound = f"{trained.bound} bound of {trained.of}{cap}"
        rows.append((f"rate as trained, q: {trained.q}", f"{trained.nats:.4f} nats", bound))
    elif evaluation.training_rate_note is not None:
        rows.append(("rate as trained", "-", evaluation.training_rate_note))
    return rows


def _interval(share: "Proportion") -> str:
    return f"{share.low:.2%} to {share.high:.2%}"
