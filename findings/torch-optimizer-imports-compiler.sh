#!/usr/bin/env bash
# What: making an optimiser imports torch's compiler, in a program that compiles nothing. A wrapper that
#   keeps Optimizer.add_param_group out of graphs imports torch._dynamo, and with it sympy and
#   torch.distributed.fsdp: about 900 modules, nearly as many as `import torch` itself.
# Versions: torch 2.14.1.
# Seen on 2026-11-29: SGD over one parameter takes 892 modules and 1 to 2 s of a core (Zen 3); a second
#   one takes half a thousandth of that.
# For a user: each short training, and each process of a sweep, pays for it; it is no part of the speed
#   of a step. `paradise train --dry-run` measures after the first steps.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    PYTHON="$folder/venv/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
cat >"$folder/first_step.py" <<'EOP'
import sys
import time
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"

weight = torch.nn.Parameter(torch.ones(3))
compiler = ("torch._dynamo", "sympy", "torch.distributed.fsdp")
assert not any(name in sys.modules for name in compiler)
before, used = len(sys.modules), []
for _ in range(2):
    started = time.process_time()
    torch.optim.SGD([weight], lr=0.1)
    used.append(time.process_time() - started)
new = len(sys.modules) - before
print(f"first optimiser: {new} modules, {used[0]:.2f} s of a core; second: {used[1]:.5f} s")
for name in compiler:
    assert name in sys.modules, f"{name} is no longer imported"
assert new > 500 and used[0] > 100 * used[1]
EOP
"$PYTHON" "$folder/first_step.py" "${packages[@]}"
