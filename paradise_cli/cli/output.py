"""Where a command writes: results on stdout, everything else on stderr."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paradise_cli.core.errors import LONGEST_LINE, printable, shown
from paradise_cli.core.processes import beside_main

# Some programs say that there are 0 columns, where nothing is drawn: the usual number, then.
_WIDTH = 80 if os.environ.get("COLUMNS") == "0" else None
# Without wrapping: in a pipe or a log a line must not break at the width of an absent terminal.
console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
_UNBOUNDED = 10_000
notes = Console(stderr=True, highlight=False, soft_wrap=True, width=_WIDTH)


def note(text: str) -> None:
    """A line on stderr, with no markup read into it; of several processes the main one's."""
    if not beside_main():
        notes.print(Text(shown(text)))


def plain(text: str) -> Text:
    """One line of a table: no markup is read into it, and no command to the terminal."""
    # A class folder may be called [bold], and a file have a name that clears the screen.
    return Text(printable(text, LONGEST_LINE))


def print_entry(first: str, text: str, broken: str = "") -> None:
    """`first` and a text on stdout, in one line; in a terminal as many as it takes, each beneath
    the text. `broken` ends those that go on, as a backslash those of a command.
    """
    # Others may have written it: no line of theirs looks like one of ours.
    text = printable(text, len(text))
    lines = [text]
    # In a pipe whole: grep and cut want an entry a line.
    if console.is_terminal:
        room = max(console.width - len(first) - len(broken), 20)
        lines = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    print(first + f"{broken}\n{' ' * len(first)}".join(lines))


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
    table = Table(title=plain(title), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(plain(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
        return
    # No terminal, no width: a table that is read later keeps its cells whole.
    wide = Console(highlight=False, soft_wrap=True, width=_UNBOUNDED, file=console.file)
    wide.print(table)
