"""Paths that are this process's own stdout or stderr, as `--out /dev/stdout` is."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO


def is_own_stream(path: Path) -> bool:
    """Whether a path is where this process's stdout or stderr goes."""
    return os.path.exists(path) and own_stream(path.stat()) is not None


def own_stream(found: os.stat_result) -> IO[str] | None:
    """stdout or stderr, where that is what was found, as for `--out /dev/stdout >file`."""
    for stream in (sys.stdout, sys.stderr):
        # A stream that a test or a notebook put in its place has no descriptor.
        with suppress(OSError, ValueError, AttributeError):
            if os.path.samestat(os.fstat(stream.fileno()), found):
                return stream
    return None
