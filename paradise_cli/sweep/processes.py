"""The processes in which the runs of a sweep are trained and evaluated."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from paradise_cli.core.errors import Requeued
from paradise_cli.core.locks import in_use
from paradise_cli.core.parent import WATCHED
from paradise_cli.core.processes import COMMAND, python_path, without_others
from paradise_cli.recipe.imports import module_folders
from paradise_cli.sweep.plan import SweepPoint
from paradise_cli.training.run_folder import RunFolder

LOG = "log.txt"


@dataclass
class Running:
    """The process of a point's run, the slot that it takes, and its log."""

    point: SweepPoint
    run: RunFolder
    process: subprocess.Popen[bytes]
    slot: int
    log: IO[bytes]

    def close(self) -> None:
        """Let go of its log, and of its stdin, by which it sees that this process is there."""
        self.log.close()
        if self.process.stdin is not None:
            self.process.stdin.close()

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        # A command that was able to tidy up ends as a shell reports it, with 128 + the number.
        code = self.process.returncode
        number = -code if code < 0 else code - 128
        return number if number in signal.valid_signals() else None

    @property
    def found_taken(self) -> bool:
        """Whether it ended since another process was training the run."""
        return in_use("training", self.run.path) in self._said()

    @property
    def reason(self) -> str:
        """The last message of one that failed."""
        if self.process.returncode == Requeued.exit_code:
            return "stopped by a signal, and saved: the same command goes on"
        if self.signal is not None:
            return f"killed by signal {self.signal}"
        # The command line ends with one message behind this word, in which it may come again.
        parts = re.split(r"^error: ", self._said().strip(), flags=re.MULTILINE)
        return parts[-1] or "it ended without a message"

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def start(
    point: SweepPoint,
    run: RunFolder,
    arguments: Sequence[str],
    slot: int,
    environment: dict[str, str],
) -> Running:
    """Start a command for a run."""
    folders = module_folders(point.recipe.imports)
    own = environment | {"PYTHONPATH": python_path(*folders), WATCHED: "1"}
    inherited = without_others(os.environ)
    path = run.path / LOG
    # A file of its own: another sweep's process may still write into the one that is there.
    path.unlink(missing_ok=True)
    log = path.open("w+b")
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=inherited | own,
        # Ctrl-C reaches the sweep alone, which passes it on once
        start_new_session=True,
    )  # fmt: skip
    return Running(point, run, process, slot, log)


def interrupt(running: Sequence[Running]) -> None:
    """Ask processes to stop, and wait until all have."""
    # First all, then wait: they save their state at the same time.
    for job in running:
        job.process.terminate()
    for job in running:
        job.process.wait()
        job.close()
