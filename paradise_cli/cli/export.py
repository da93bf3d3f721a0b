"""`paradise export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paradise_cli.cli.images import model_of
from paradise_cli.cli.options import JsonOption, OverwriteOption
from paradise_cli.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from paradise_cli.export.export import Exported


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run folder, a weights file or a packaged model."),
    ],
    format: Annotated[
        Literal["onnx", "torch"], typer.Option("--format", "-f", help="onnx, or torch for .pt2.")
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", show_default="the model's name and .onnx or .pt2")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as one file that runs without this package.

    \b
    paradise export runs/mine --format onnx --out mine.onnx
    paradise export cifar10-rn20 --format torch

    Images [batch, C, H, W] in [0, 1] go in; mean and log_variance come out, and the
    log-probabilities of each classification head. Normalisation is in the file; how images are
    resized is in its metadata. What the file answers is compared with the model before it appears.
    """
    from paradise_cli.core.results import check_suffix, replacing
    from paradise_cli.export.suffixes import SUFFIXES
    from paradise_cli.inference.find_model import find_model, short_name

    # A misspelt name is refused before torch is loaded, and a wrong ending before the model is.
    found = find_model(model)
    path = out or Path(short_name(found) + SUFFIXES[format])
    check_suffix(path, (SUFFIXES[format],))

    from paradise_cli.export.export import export as write
    from paradise_cli.export.formats import FORMATS
    from paradise_cli.inference.loading import load

    loaded = load(found)
    origin = {"command": "export", **model_of(loaded), "format": format}
    with replacing(path, origin, overwrite=overwrite):
        exported = write(loaded, path, format)
    if as_json:
        print_json(exported.to_json())
        return
    _show(exported, found, FORMATS[format].checker)


def _show(exported: "Exported", model: Path, checker: str) -> None:
    from paradise_cli.export.network import BATCHES

    apart = exported.differences
    rows = [
        (name, "not compared" if apart is None else f"{apart[name]:.1e}")
        for name in exported.outputs
    ]
    columns = ("gives", "largest difference (above 1: share)")
    print_table(f"{exported.path}: {exported.bytes / 1e6:.1f} MB", columns, rows)
    if exported.checked_by is None:
        note(f"not compared: install {checker} to have the file checked")
    else:
        batches = ", ".join(map(str, BATCHES))
        note(f"compared with {model} by {exported.checked_by}, at batches of {batches}")
