#!/usr/bin/env bash
# What: torch.distributed.nn.functional has the process group as the default of its arguments, as it is when
#   the module is imported. Where that is after init_process_group, as by the first optimiser that is made,
#   destroy_process_group destroys nothing: gloo's threads go on to the end of the interpreter.
# Versions: torch 2.14.1.
# Seen on 2026-11-30, one process, gloo: imported before, no thread of gloo is left after
#   destroy_process_group; imported after init_process_group, or by torch.optim.SGD, all are left.
#   A thread of gloo that lets go of a tensor while Python is being taken down ends the process with
#   SIGABRT and "terminate called without an active exception": so did 2 of about 60 processes of our tests
#   on a busy machine. (Of threads that run until then pytorch pull request 179291 tells.)
# For a user: a training that was done well ends with exit code -6, and a launcher starts it again.
# torch takes gigabytes: name a Python that has it in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 numpy==2.4.6)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
export OMP_NUM_THREADS=1
for how in before after optimiser; do
    "$PYTHON" -W ignore - "$how" "${packages[@]}" <<'EOF'
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from torch import distributed

how, *pins = sys.argv[1:]
for name, wanted in (pin.split("==") for pin in pins):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


def threads():
    names = (Path("/proc/self/task") / task / "comm" for task in os.listdir("/proc/self/task"))
    return sum("gloo" in name.read_text() for name in names)


if how == "before":
    import torch.distributed.nn
store = distributed.FileStore(tempfile.mkdtemp() + "/store", 1)
distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
at_work = threads()
if how == "after":
    import torch.distributed.nn
if how == "optimiser":
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
distributed.destroy_process_group()
left = threads()
print(f"{how}: {at_work} threads of gloo, {left} left after destroy_process_group")
assert at_work > 0 and left == (0 if how == "before" else at_work)
# Without the end of the interpreter, which is what may abort.
sys.stdout.flush()
os._exit(0)
EOF
done
