"""`paradise predict`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from paradise_cli.cli.output import note, print_json, print_table
from paradise_cli.core.results import PREDICTIONS
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.inference.prediction import ImagePrediction

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        callback=written(*PREDICTIONS, chooses=True),
        help="A .csv or .json file.",
    ),
]
_SHOWN = 50  # rows of a table on a terminal


def predict(
    images: ImagesArgument,
    out: Out = None,
    model: ModelOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes per image, best first.")] = 1,
    batch_size: AheadOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Name the class of every image, with its probability.

    \b
    paradise predict photos/cat.jpg                        a table
    paradise predict photos/ --model runs/mine --top 5     the five likeliest
    paradise predict photos/ --out classes.csv             a row for each rank
    paradise predict digits:test --model runs/digits --json  for scripts

    Files that cannot be read are skipped and listed, and the exit code is then 1.
    """
    loaded = load_and_say(model, images, device, "predict")

    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.core.results import replacing
    from paradise_cli.inference.prediction import predict_each, write_predictions

    source = loaded.open(in_order(images))
    total = len(source.ids)
    origin = origin_of("predict", loaded, images) | {"top": top}
    # On a terminal only the first images are looked at: closing the generator stops the threads.
    with (
        replacing(out, origin, overwrite=overwrite),
        progress_bar(total, "predicting") as advance,
        closing(predict_each(loaded, source, top=top, ahead=batch_size, progress=advance)) as found,
    ):
        if out is None:
            shown = list(found if as_json else _first_readable(found))
            count, skipped = len(shown), [image for image in shown if image.error is not None]
        else:
            count, skipped = write_predictions(found, out)
    if out is not None:
        note(f"{out}: predictions for {counted(count - len(skipped), 'image')}")
    elif not as_json:
        _print(shown, total, str(loaded.source))
    if as_json:
        # With --out the predictions are in the file, and the document says where.
        where = {"out": str(out)} if out else {"images": [image.to_json() for image in shown]}
        print_json({"model": str(loaded.source), **where})
    report_skipped([(image.path, image.error or "") for image in skipped], count, out)


def _first_readable(found: "Iterable[ImagePrediction]") -> "Iterator[ImagePrediction]":
    """Up to the last image that a terminal shows; whatever cannot be read comes along."""
    readable = 0
    for image in found:
        yield image
        readable += image.error is None
        if readable == _SHOWN:
            return


def _print(shown: "Sequence[ImagePrediction]", total: int, title: str) -> None:
    """The first images as a table, without those that cannot be read."""
    from paradise_cli.inference.prediction import COLUMNS

    rows = [row for image in shown if image.error is None for row in image.rows()]
    # The last column is the error.
    print_table(title, COLUMNS[:-1], [row[:-1] for row in rows])
    if len(shown) < total:
        note(f"the first {len(shown)} of {counted(total, 'image')}; --out FILE.csv writes all")
