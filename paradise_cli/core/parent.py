"""A process that ends with the one that started it, however that one ends."""

import os
import signal
import threading

WATCHED = "PARADISE_WATCHES_STDIN"
"""Set for a process whose stdin is a pipe that its parent holds open, and never writes into."""


def end_with_parent() -> None:
    """Where `WATCHED` is set, stop this process as SIGTERM does, once its parent is gone."""
    # Those that it starts in its turn have another stdin.
    if os.environ.pop(WATCHED, None) is not None:
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    # A killed parent can tell nobody, but the system closes its end of the pipe.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
