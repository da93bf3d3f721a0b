"""Pictures beside numbers: one that cannot be drawn costs a line, and never the numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paradise_cli.core.errors import named

Say = Callable[[str], None]
"""Shows a person one line."""


@contextmanager
def drawing(path: Path, say: Say | None) -> Iterator[None]:
    """Draw the picture `path` in the body; where that fails, say so in one line and go on.

    Import within the body what draws. Without `say` the error is the caller's.
    """
    try:
        yield
    # Whatever it is: of fonts, of a broken installation, of a full disk.
    except Exception as error:
        if say is None:
            raise
        # An older one would show other numbers than those beside it.
        with suppress(OSError):
            path.unlink()
        say(f"warning: {path} cannot be drawn, and is left out ({named(error)})")
