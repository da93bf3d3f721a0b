"""A table with a row for each image, as parquet or CSV; checked before torch is loaded."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from paradise_cli.core.errors import as_utf8
from paradise_cli.core.results import check_suffix
from paradise_cli.core.storage import publish, require_writable


class Column(NamedTuple):
    """A value for each image, None where there is none."""

    kind: Literal["string", "bool", "double"]
    values: list[Any]


Table: TypeAlias = dict[str, Column]


def check_out(out: Path) -> None:
    """Raise UsageError for another kind of table, ParadiseError where it cannot be written."""
    check_suffix(out, tuple(_WRITERS), "--per-example", chooses=True)
    require_writable(out)


def picture_of(out: Path) -> Path:
    """Where the picture of a table is drawn."""
    return out.with_suffix(".png")


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format that the ending of its path names."""
    _WRITERS[path.suffix](table, path)


def _write_parquet(table: Table, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def array(kind: str, values: list[Any]) -> Any:
        if kind == "string":
            values = [text and as_utf8(text) for text in values]  # Parquet holds UTF-8 only
        return pa.array(values, pa.type_for_alias(kind))

    columns = {name: array(*column) for name, column in table.items()}
    with publish(path) as temporary, temporary.open("wb") as file:
        parquet.write_table(pa.table(columns), file)


def _write_csv(table: Table, path: Path) -> None:
    with publish(path) as temporary:
        # File names that are not UTF-8 keep their bytes.
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(table)
            rows.writerows(zip(*(column.values for column in table.values()), strict=True))


# The endings that a user may choose; each writer publishes a whole file or none.
_WRITERS: dict[str, Callable[[Table, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
