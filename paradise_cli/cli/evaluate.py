"""`paradise evaluate`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.attack_options import Split
from paradise_cli.cli.images import data_of, model_of, open_and_say, refuse_among_read
from paradise_cli.cli.nuisance import (
    draw_nuisance,
    nuisance_picture,
    print_nuisance,
    require_pictures,
    under_nuisance,
)
from paradise_cli.cli.options import (
    DeviceOption,
    JsonOption,
    OutOption,
    OverridesOption,
    OverwriteOption,
    SeedOption,
)
from paradise_cli.cli.output import console, deliver, note
from paradise_cli.cli.tables import Row, latent_rows, nats, print_sections, rate_rows
from paradise_cli.core.processes import beside_main, require_same, together
from paradise_cli.core.ranges import MOST_DRAWS
from paradise_cli.core.results import replacing
from paradise_cli.core.units import counted, significant

if TYPE_CHECKING:
    from paradise_cli.core.proportions import Proportion
    from paradise_cli.evaluation.evaluate import Evaluation, Measurement
    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.evaluation.image_costs import ImageCosts
    from paradise_cli.evaluation.metrics import Classification, Distortion
    from paradise_cli.evaluation.nuisance import Nuisance
    from paradise_cli.inference.loading import LoadedModel

DRAWS = 16  # with one, the cheapest images are those whose z lies far out

Draws = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_DRAWS,
        help="z for each image in the exact rate.",
        show_default=f"1, or {DRAWS} with --per-example: one z tells little of one image",
    ),
]
PerExample = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="Also write what each image costs, the size of its posterior and its distortion to a"
        " .parquet or .csv, and beside it as .png the most and least expensive images.",
    ),
]
Nuisances = Annotated[
    bool,
    typer.Option(
        "--nuisance",
        help="Also measure the model under noise, crops, shifts, turns, blur, JPEG and light, each"
        " at three strengths; with --out a picture is drawn beside it.",
    ),
]


Model = Annotated[str, typer.Argument(help="A run folder, a weights file, or a name from the zoo.")]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="A data set, a folder of class folders, or an .npz with images and labels.",
        show_default="the data of the model's recipe",
    ),
]


def evaluate(
    model: Model,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    draws: Draws = None,
    out: OutOption = None,
    per_example: PerExample = None,
    nuisance: Nuisances = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Accuracy, calibration, distortion and rate of a model, with intervals.

    \b
    paradise evaluate runs/digits
    paradise evaluate model.safetensors --split validation --json
    paradise evaluate runs/photos --data holiday/
    paradise evaluate runs/digits --per-example a.csv   what each image costs
    paradise evaluate runs/digits --nuisance            under noise, blur, ...
    """
    pictured = {"--per-example": per_example, "--out": out if nuisance else None}
    _refuse_pictures(pictured, None, data, overrides)
    _refuse_mistakes(model, per_example)
    draws = draws or (1 if per_example is None else DRAWS)
    from paradise_cli.inference.loading import load

    loaded = load(model, device)
    note(loaded.label)
    _refuse_pictures(pictured, loaded, data, overrides)
    opened = _open(loaded, data, split, overrides or (), pictures=nuisance)
    asked = {"seed": seed, "draws": draws}
    origin = {
        **model_of(loaded), **data_of(data, split, overrides or ()), **asked,
    } | ({"nuisance": True} if nuisance else {})  # fmt: skip
    with ExitStack() as results:
        # Nothing is measured whose result may not be written; the main process alone writes.
        for path in [] if beside_main() else _results(out, per_example, nuisance):
            results.enter_context(replacing(path, origin, overwrite=overwrite))
        measured = _measured(loaded, opened, asked)
        if beside_main():
            return
        costs = None if per_example is None else _costs(loaded, opened, measured, per_example)
        found = under_nuisance(loaded, opened, measured, seed) if nuisance else None
        document = _document(loaded, opened, measured, costs, found)
        deliver(document, out, as_json, lambda: _show(measured, costs, found))
        draw_nuisance(found, nuisance_picture(out, nuisance))


def _measured(
    loaded: "LoadedModel", opened: "EvaluationData", asked: dict[str, int]
) -> "Measurement":
    """What all processes that torchrun started find together."""
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.core.shares import all_processes
    from paradise_cli.evaluation.evaluate import measure_loaded

    with together():
        processes = all_processes()
        read = {"model": loaded.digest, "data": opened.label, "images": len(opened.split)}
        require_same(read | asked)
        return measure_loaded(loaded, opened, bar=progress_bar, processes=processes, **asked)


def _results(out: Path | None, per_example: Path | None, nuisance: bool) -> list[Path | None]:
    """What is written, with the pictures beside it."""
    from paradise_cli.evaluation.cost_table import picture_of

    pictures = [per_example and picture_of(per_example), nuisance_picture(out, nuisance)]
    return [out, per_example, *pictures]


def _document(
    loaded: "LoadedModel",
    opened: "EvaluationData",
    measured: "Measurement",
    costs: "ImageCosts | None",
    found: "Nuisance | None",
) -> dict[str, Any]:
    """The result as JSON values."""
    # How classes and images were read belongs to the number, wherever it is quoted.
    document = measured.evaluation.to_json() | {"notes": list(opened.notes)}
    document["weights"] = loaded.provenance.get("weights")
    document |= {} if costs is None else {"per_example": costs.to_json()}
    return document | ({} if found is None else {"nuisance": found.to_json()})


def _show(measured: "Measurement", costs: "ImageCosts | None", found: "Nuisance | None") -> None:
    print_evaluation(measured.evaluation, costs)
    if found is not None:
        print_nuisance(found)


def _refuse_mistakes(model: str, per_example: Path | None) -> None:
    """Refuse what is wrong with the command line before torch is loaded."""
    from paradise_cli.evaluation.cost_table import check_out
    from paradise_cli.inference.find_model import find_model

    if per_example is not None:
        check_out(per_example)
    find_model(model)


def _refuse_pictures(
    pictured: dict[str, Path | None],
    loaded: "LoadedModel | None",
    data: str | None,
    overrides: Sequence[str] | None,
) -> None:
    """Refuse results, by option, whose pictures would stand among the images that are judged."""
    for option, path in pictured.items():
        refuse_among_read(path, loaded, data, overrides, option)


def _open(
    loaded: "LoadedModel",
    data: str | None,
    split: str | None,
    overrides: Sequence[str],
    pictures: bool,
) -> "EvaluationData":
    """The data to judge by; what should be known of them is said before anything is measured.

    Raises UsageError where they must be `pictures` and are none.
    """
    if pictures:
        require_pictures(loaded)
    return open_and_say(loaded, data, split, overrides)


def _costs(
    loaded: "LoadedModel", opened: "EvaluationData", measured: "Measurement", table: Path
) -> "ImageCosts":
    from paradise_cli.evaluation.image_costs import write_image_costs

    costs = write_image_costs(measured, loaded.recipe, loaded.info, opened.split, table, note)
    picture = costs.picture or "none"
    note(f"{table}: {counted(len(opened.split), 'row')}; picture: {picture}")
    return costs


def print_evaluation(evaluation: "Evaluation", costs: "ImageCosts | None" = None) -> None:
    """The measurements as a table on stdout."""
    unlabelled = f", {evaluation.unlabelled:,} unlabelled" if evaluation.unlabelled else ""
    print_sections(
        f"{evaluation.data}: {counted(evaluation.n, 'image')}{unlabelled}",
        ("what", "value", "95% interval, unit or bound"),
        [
            *(
                _classification(c, len(evaluation.classification) > 1)
                for c in evaluation.classification
            ),
            [
                row
                for d in evaluation.distortion
                for row in _distortion(d, len(evaluation.distortion) > 1)
            ],
            _rate(evaluation),
            latent_rows(evaluation.latents),
            _correlations(costs),
        ],
    )
    if costs is not None:
        console.print(f"{costs.claim}: {costs.verdict}")
        note(f"rank correlation: {costs.method}")
    for warning in evaluation.warnings:
        note(f"warning: {warning}")
    if evaluation.rate is not None and evaluation.rate.warning is not None:
        note(f"rate: {evaluation.rate.warning}")


def _classification(scores: "Classification", several: bool) -> list[Row]:
    # One task needs no name; several may have other numbers of labels.
    of = f" ({scores.task}, n = {scores.n:,})" if several else ""
    rows = [(f"accuracy{of}", f"{scores.top1.value:.2%}", _interval(scores.top1))]
    if scores.top5 is not None:
        rows.append((f"top-5 accuracy{of}", f"{scores.top5.value:.2%}", _interval(scores.top5)))
    rows.append((f"log loss (NLL){of}", *nats(scores.nll)))
    rows.append((f"calibration error (ECE){of}", significant(scores.ece), ""))
    rows.append((f"Brier score{of}", significant(scores.brier), ""))
    return rows


def _distortion(distortion: "Distortion", several: bool) -> list[Row]:
    of = f" ({distortion.task})" if several else ""

    def row(what: str, value: float) -> Row:
        name = f"distortion{of}, {what}"
        if distortion.unit == "nats":  # shown in bits as well
            return (name, *nats(value))
        return (name, significant(value), distortion.unit)

    return [row("sampled z", distortion.sampled), row("mean z", distortion.mean)]


def _rate(evaluation: "Evaluation") -> list[Row]:
    # A deterministic encoder has no rate: the row stays, and says why.
    if evaluation.rate is None:
        return [("rate", "-", evaluation.rate_note or "")]
    rows = rate_rows(evaluation.rate)
    trained = evaluation.training_rate
    if trained is not None:
        # Training sees a batch at a time, which can tell no more than its logarithm.
        cap = f", at most {significant(trained.cap)}" if trained.cap is not None else ""
        side = "an upper" if trained.bound == "upper" else "a lower"
        bound = f"in expectation {side} bound of {trained.estimand}{cap}"
        rows.append((f"rate as trained, q: {trained.q}", nats(trained.nats)[0], bound))
    elif evaluation.training_rate_note is not None:
        rows.append(("rate as trained", "-", evaluation.training_rate_note))
    return rows


def _correlations(costs: "ImageCosts | None") -> list[Row]:
    return [
        (
            f"rank correlation of distortion and {found.column}",
            f"{found.rho:+.3f}",
            f"{found.low:+.3f} to {found.high:+.3f}, n = {found.n:,}",
        )
        for found in (costs.correlations if costs else ())
    ]


# Two decimals: at 10,000 images a hundredth of a percent is one image.
def _interval(share: "Proportion") -> str:
    return f"{share.low:.2%} to {share.high:.2%}"
