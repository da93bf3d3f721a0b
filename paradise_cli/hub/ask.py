"""Asks the Hub in another process, which is ended when nothing comes any more."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Any

from paradise_cli.core.errors import ParadiseError, printable

STALLED = 30.0
"""Seconds without a byte after which a download is cut and tried once more, over plain HTTP."""
AGAIN = 10.0
"""Seconds without a byte after which the second try is given up."""

STARTING = 60.0
"""Seconds that the other process may take to load the client."""

PLAIN_HTTP = {"HF_HUB_DISABLE_XET": "1"}

ENDING = 1.0
"""Seconds that it may take to end when it is asked to."""

Progress = Callable[[int, int | None], None]
"""Bytes so far, and in all where that is known."""


class Stalled(Exception):
    """Nothing came for too long."""


def ask(
    repo: str,
    what: str,
    *,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The answer to one request; raises ParadiseError, in a sentence about the repository.

    `environment` is for what others must not read in a list of processes.
    """
    request = {"what": what, "repo": repo, **more}
    changed = dict(environment or {})
    try:
        return _answer(request, STALLED, changed, progress)
    except Stalled:
        pass
    try:
        # The Hub's fast transfer has been seen to hang where plain HTTP works.
        return _answer(request, AGAIN, changed | PLAIN_HTTP, progress)
    except Stalled:
        raise ParadiseError(
            f"{repo}: nothing came from the Hub for {STALLED:g} seconds, and again for {AGAIN:g}"
            " over plain HTTP; try again later"
        ) from None


def _answer(
    request: dict[str, Any], patience: float, changed: dict[str, str], progress: Progress | None
) -> dict[str, Any]:
    # A file, not a pipe: a pipe that nobody reads fills, and then stops who writes.
    with TemporaryFile("w+") as errors, _client(request, changed, errors) as process:
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        waiting = STARTING
        while True:
            try:
                line = lines.get(timeout=waiting)
            except queue.Empty:
                raise Stalled from None
            if line is None:
                reason = _end(process, errors)
                raise ParadiseError(
                    f"{request['repo']}: the Hub's client failed: {printable(reason)}"
                )
            waiting = patience
            answer = json.loads(line)
            if "ready" in answer or "waiting" in answer:
                continue
            if "error" in answer:
                raise ParadiseError(f"{request['repo']} {printable(answer['error'], 600)}")
            if "done" not in answer:
                return dict(answer)
            if progress is not None:
                progress(answer["done"], answer["total"])


@contextmanager
def _client(
    request: dict[str, Any], changed: dict[str, str], errors: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    """The other process, which does not outlive the body."""
    command = [sys.executable, "-m", "paradise_cli.hub.client", json.dumps(request)]
    environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"} | changed
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        env=environment,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            # It has things to put away, unless it hangs in foreign code.
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING)
            process.kill()


def _read(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str], errors: IO[str]) -> str:
    """The last line of what a process said before it failed."""
    code = process.wait()
    errors.seek(0)
    said = errors.read().strip().splitlines()
    return said[-1] if said else f"it ended with {code}"
