#!/usr/bin/env bash
# What: torch.manual_seed seeds every kind of device there is. For each kind that no program has
#   used yet (CUDA, XPU, MTIA) it formats the whole Python stack, to have it at hand should seeding
#   fail later: 0.1 to 0.9 ms a call, the more the deeper the stack, for 0.002 ms of seeding.
# Versions: torch 2.14.1, on a machine without a GPU.
# Seen on 2026-11-28: three stack traces a call; none by torch.default_generator.manual_seed, after
#   which a CPU draws the same numbers.
# For a user: to seed in every step, seed the generator of the device that draws.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import sys
import time
import traceback
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
assert not torch.cuda.is_available(), "run it where there is no GPU"
format_stack, calls = traceback.format_stack, 0


def counted(*given, **named):
    global calls
    calls += 1
    return format_stack(*given, **named)


seeds = {"manual_seed": torch.manual_seed, "default_generator": torch.default_generator.manual_seed}
formatted, drawn = {}, {}
for name, seed in seeds.items():
    started = time.perf_counter()
    for _ in range(300):
        seed(0)
    took = (time.perf_counter() - started) / 300
    traceback.format_stack, calls = counted, 0
    seed(0)
    traceback.format_stack = format_stack
    formatted[name], drawn[name] = calls, torch.rand(3)
    print(f"{name}: {1000 * took:.3f} ms and {calls} stack traces a call")
assert torch.equal(drawn["manual_seed"], drawn["default_generator"])
assert formatted == {"manual_seed": 3, "default_generator": 0}
EOF
