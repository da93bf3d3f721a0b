#!/usr/bin/env bash
# What: a job of submitit goes on through SIGTERM, with one line in its log: it saves and asks to be
#   queued again on its own signal alone (SIGUSR2 unless configured). Where a scheduler announces the
#   end by SIGTERM and then kills, `checkpoint` is never called.
# Versions: submitit 1.5.4.
# Seen on 2026-11-30: a checkpointable job under LocalExecutor got SIGTERM, ran to its end, and
#   wrote no checkpoint; its log says "Bypassing signal SIGTERM".
# For a user: ask for submitit's signal (its `signal_delay_s`), or start the program as a process
#   that handles SIGTERM and let `checkpoint` send it (docs/schedulers.md).
set -euo pipefail
packages=(submitit==1.5.4 cloudpickle==3.1.2)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
"$folder/venv/bin/python" - "$folder" "${packages[@]}" <<'EOF'
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import submitit

folder = Path(sys.argv[1])
for name, wanted in (pin.split("==") for pin in sys.argv[2:]):
    assert version(name) == wanted, f"{name} is {version(name)}"
READY, SAVED = folder / "ready", folder / "saved"


class Work(submitit.helpers.Checkpointable):
    """Three seconds of work, which a checkpoint would be told of."""

    def __call__(self):
        READY.write_text(str(os.getpid()))
        time.sleep(3)
        return "finished"

    def checkpoint(self):
        SAVED.touch()
        return super().checkpoint()


executor = submitit.LocalExecutor(folder / "jobs")
executor.update_parameters(timeout_min=2)
job = executor.submit(Work())
while not (READY.exists() and READY.read_text()):
    time.sleep(0.05)
os.kill(int(READY.read_text()), signal.SIGTERM)
result = job.result()
print(f"after SIGTERM the job {result}; checkpoint called: {SAVED.exists()}")
assert result == "finished" and not SAVED.exists()
assert "Bypassing signal SIGTERM" in job.stderr()
EOF
