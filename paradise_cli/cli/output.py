"""Where a command writes: results on stdout, everything else on stderr."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Without wrapping: in a pipe or a log a line must not break at the width of an absent terminal.
console = Console(highlight=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A line on stderr, with no markup read into it."""
    # Text: a class folder may be called [bold].
    notes.print(Text(text))


def print_json(value: Any) -> None:
    """Exactly one JSON document on stdout."""
    print(json.dumps(value, indent=2))


def deliver(
    document: dict[str, Any], out: Path | None, as_json: bool, show: Callable[[], None]
) -> None:
    """Write the document to `out`, if any; on stdout it is JSON, or else what `show` prints."""
    from paradise_cli.core.storage import write_json

    if out is not None:
        write_json(out, document)
    if as_json:
        print_json(document)
    else:
        show()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is left-aligned, the others right."""
    table = Table(title=Text(title), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
