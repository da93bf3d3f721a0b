"""`paradise reconstruct`."""

from pathlib import Path
from typing import Annotated

import typer

from paradise_cli.cli.images import (
    AheadOption,
    ImagesArgument,
    ModelOption,
    in_order,
    load_and_say,
    origin_of,
    report_skipped,
)
from paradise_cli.cli.options import DeviceOption, JsonOption, OverwriteOption, written
from paradise_cli.cli.output import note, print_json
from paradise_cli.core.results import refuse_among
from paradise_cli.core.units import counted

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        callback=written(".png", or_folder=True),
        help="A folder, or one picture that ends in .png.",
    ),
]


def reconstruct(
    images: ImagesArgument,
    out: Out,
    model: ModelOption = None,
    batch_size: AheadOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw what a model with a decoder keeps of every image.

    \b
    paradise reconstruct faces/ --out kept/ --model runs/mine   a PNG each
    paradise reconstruct faces/ --out a.png --model runs/mine   32 in one picture

    Files that cannot be read are skipped and listed, and the exit code is then 1.
    """
    refuse_among(out, images)
    loaded = load_and_say(model, images, device, "reconstruct")

    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.core.results import replacing
    from paradise_cli.inference.reconstruction import GRID_IMAGES, reconstruct_to_files

    source = loaded.open(in_order(images))
    origin = origin_of("reconstruct", loaded, images)
    # A folder may hold other files: the index shows whether results are in it.
    part, pictures = ("", ()) if out.suffix.lower() == ".png" else ("index.csv", ("*.png",))
    with (
        replacing(out, origin, overwrite=overwrite, part=part, others=pictures),
        progress_bar(len(source.ids), "reconstructing") as advance,
    ):
        done = reconstruct_to_files(loaded, source, out, ahead=batch_size, progress=advance)
    # Before the unreadable files, which end the command.
    if as_json:
        print_json(
            {
                "grid": str(done.grid),
                "index": done.index and str(done.index),
                "model": str(loaded.source),
                "rows": done.rows,
                "skipped": [{"path": path, "error": reason} for path, reason in done.skipped],
            }
        )
    # The grid holds the first ones, whatever the folder holds.
    note(f"{done.grid}: {counted(min(done.rows, GRID_IMAGES), 'original')}, each over what is kept")
    if done.index:
        note(f"{out}: {counted(done.rows, 'reconstruction')}; index: {done.index}")
    report_skipped(done.skipped, len(source.ids), done.index)
