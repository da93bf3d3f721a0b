"""`paradise predict`."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from paradise_cli.cli.images import (
    AheadOption,
    ImagesArgument,
    ModelOption,
    in_order,
    load_and_say,
    printable,
    report_skipped,
)
from paradise_cli.cli.options import DeviceOption, JsonOption
from paradise_cli.cli.output import note, print_json, print_table

_SHOWN = 50


def predict(
    images: ImagesArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .csv or .json file.")] = None,
    model: ModelOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes per image, best first.")] = 1,
    batch_size: AheadOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Name the class of every image, with its probability.

    \b
    paradise predict photos/cat.jpg                          a table, by the packaged model
    paradise predict photos/ --model runs/mine --top 5       the five most probable classes
    paradise predict photos/ --out classes.csv               path, head, rank, class, probability, error
    paradise predict digits:test --model runs/digits --json  for scripts

    Files that cannot be read are skipped and listed, and the exit code is then 1.
    """
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.inference.prediction import COLUMNS, answers, write_answers

    loaded = load_and_say(model, device)
    source = loaded.open(in_order(images))
    total = len(source.ids)
    with progress_bar(total, "predicting") as advance:
        with closing(answers(loaded, source, top=top, ahead=batch_size, progress=advance)) as found:
            if out is None:
                listed = list(islice(found, None if as_json else _SHOWN))
                skipped = [answer for answer in listed if answer.error is not None]
            else:
                count, skipped = write_answers(found, out)
    if out is not None:
        note(f"{out}: predictions for {count - len(skipped):,} images")
    if as_json:
        shown = {"out": str(out)} if out else {"images": [answer.to_json() for answer in listed]}
        print_json({"model": str(loaded.source), **shown})
    elif out is None:
        rows = [row[:-1] for answer in listed if answer.error is None for row in answer.rows()]
        print_table(
            str(loaded.source), COLUMNS[:-1], [(printable(row[0]), *row[1:]) for row in rows]
        )
        if len(listed) < total:
            note(f"the first {len(listed)} of {total:,} images; --out FILE.csv writes all")
    report_skipped([(answer.path, answer.error or "") for answer in skipped], total, out)
