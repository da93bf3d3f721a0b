"""What `paradise search` shows and writes: a table, a document and a contact sheet."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paradise_cli.cli.output import note, print_json, print_table
from paradise_cli.core.errors import as_utf8
from paradise_cli.core.results import origin_at, place, replacing
from paradise_cli.core.storage import publish_text, write_json
from paradise_cli.core.units import counted, significant
from paradise_cli.figures.beside import drawing
from paradise_cli.figures.sheet import COLUMNS, Shown, draw_sheet
from paradise_cli.inference.near_duplicates import ANGLE, OVERLAP, Limit
from paradise_cli.inference.posterior_index import PosteriorIndex
from paradise_cli.inference.search import Duplicates, Neighbours

_PRINTED = 50  # rows of a table on a terminal
_DRAWN = 30  # queries or groups of a contact sheet
_MANY = 0.1  # of the copies: where more lie near images of others, most pairs are by chance
_UNITS = {"overlap": "-log overlap, nats", "wasserstein": "2-Wasserstein",
          "expected_squared": "E |z - z'|^2"}  # fmt: skip


class Table(NamedTuple):
    """What was found: `rows` under `columns`, the same as a JSON `document`, and as a `sheet`.

    `entries` says how many queries or groups are drawn.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    document: dict[str, Any]
    sheet: list[Shown]
    entries: str


def neighbour_table(index: PosteriorIndex, found: Sequence[Neighbours], distance: str) -> Table:
    """A row for each neighbour of each query."""
    rows = [
        (each.query, rank, image, apart)
        for each in found
        for rank, (image, apart) in enumerate(each.images, 1)
    ]
    queries = [
        {
            "path": each.query,
            "neighbours": [{"path": image, "distance": apart} for image, apart in each.images],
        }
        for each in found
    ]
    document = {"index": str(index.path), "distance": distance, "queries": queries}
    sheet: list[Shown] = []
    for each in found[:_DRAWN]:
        near = [(image, f"{Path(image).name}\n{significant(d)}", False) for image, d in each.images]
        sheet.append((each.query, [(each.query, "query", True), *near]))
    title = f"{index.path}: nearest by {_UNITS[distance]}"
    return Table(
        title,
        ("query", "rank", "image", "distance"),
        rows,
        document,
        sheet,
        _of(len(found), "query", "queries"),
    )


def duplicate_table(index: PosteriorIndex, found: Duplicates, overlap: float) -> Table:
    """A row for each pair, by groups, the largest first and in each what overlaps most."""
    number = {image: n for n, group in enumerate(found.groups, 1) for image in group}
    rows = [(number[one], one, other, share) for one, other, share in found.pairs]
    rows.sort(key=lambda row: row[0])  # stable: within a group the order stays
    document = {
        "index": str(index.path),
        "images": len(index.ids),
        "overlap": overlap,
        "groups": found.groups,
        "pairs": [
            {"group": group, "paths": [one, other], "overlap": share}
            for group, one, other, share in rows
        ],
    }
    pairs = counted(len(rows), "pair")
    groups = counted(len(found.groups), "group")
    title = f"{index.path}: {pairs} in {groups}, overlap at least {significant(overlap, 3)}"
    return Table(
        title,
        ("group", "image", "other", "overlap"),
        rows,
        document,
        _groups(found),
        _of(len(found.groups), "group", "groups"),
    )


def _of(number: int, one: str, several: str) -> str:
    """How many are drawn."""
    if number <= _DRAWN:
        return counted(number, one, several)
    return f"the first {_DRAWN} of {counted(number, one, several)}"


def _groups(found: Duplicates) -> list[Shown]:
    """The first groups: each larger one under a heading, those of two beside each other."""
    numbered = list(enumerate(found.groups[:_DRAWN], 1))
    sheet: list[Shown] = []
    for number, group in numbered:
        if len(group) > 2:
            images = [(image, Path(image).name, False) for image in group[: 2 * COLUMNS]]
            sheet.append((f"group {number}: {counted(len(group), 'image')}", images))
    pairs = [
        (image, f"{number}: {Path(image).name}", False)
        for number, group in numbered
        if len(group) == 2
        for image in group
    ]
    return [*sheet, ("groups of two", pairs)] if pairs else sheet


def say_limit(limit: Limit) -> None:
    """How the limit came about, and whether it tells images apart."""
    note(
        f"near-duplicates overlap by {significant(math.exp(-limit.nats), 3)} or more, and features"
        f" have a cosine of {significant(1 - limit.angle, 3)} or more: so it is with {OVERLAP:.1%}"
        f" and {ANGLE:.0%} of {limit.tried} copies, made to try (cropped, resized, JPEG);"
        f" {limit.others} of them are as near to another image, too"
    )
    if limit.others > _MANY * limit.tried:
        note(
            "warning: this model hardly tells these images apart, and most pairs may be no"
            " duplicates: take one that was trained for it, paradise train near_duplicates"
            " --set data.root=FOLDER, or a larger --overlap"
        )


def deliver_table(
    table: Table,
    out: Path | None,
    picture: Path | None,
    *,
    top: int | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Print what was found, and write it and its contact sheet where asked for.

    `top` is how many neighbours of each query were asked for, None where pairs were.
    """
    origin = _origin(table.document, top)
    with replacing(out, origin, overwrite=overwrite):
        if out is not None:
            _write(table, out)
            note(f"{out}: {counted(len(table.rows), 'row')}")
    if as_json:
        print_json(table.document)
    else:
        _print(table)
    if picture is not None and table.sheet:
        with (
            replacing(picture, origin, overwrite=overwrite),
            drawing(picture, note),
        ):
            draw_sheet(table.sheet, picture, table.title)
            note(f"{picture}: {table.entries}")
    elif picture is not None:
        note(f"{picture} is not drawn: nothing was found")


def _origin(document: dict[str, Any], top: int | None) -> dict[str, Any]:
    """What decides the result of a search: see `core.results`."""
    index = document["index"]
    # An index that was made anew may be of another model, or of other images.
    made = origin_at(Path(index)) or {}
    return {
        "command": "search",
        "index": place(index),
        **{f"index {name}": made.get(name) for name in ("model", "weights", "images")},
        "queries": [place(each["path"]) for each in document.get("queries", [])],
        **{name: document.get(name) for name in ("distance", "overlap")},
        "top": top,
    }


def _write(table: Table, out: Path) -> None:
    if out.suffix == ".json":
        write_json(out, table.document)
        return
    with publish_text(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        for row in table.rows:
            writer.writerow([as_utf8(cell) if isinstance(cell, str) else cell for cell in row])


def _print(table: Table) -> None:
    rows = [
        tuple(significant(cell) if isinstance(cell, float) else str(cell) for cell in row)
        for row in table.rows[:_PRINTED]
    ]
    print_table(table.title, table.columns, rows)
    if len(table.rows) > _PRINTED:
        note(f"the first {_PRINTED} of {len(table.rows):,} rows; --out FILE.csv writes all")
