#!/usr/bin/env bash
# What: the first numbers of torch.randn on a CPU depend on how many are asked for: fewer than 16
#   are drawn in another way, and where the count is no multiple of 16, the last 16 are drawn anew.
# Versions: torch 2.14.1.
# Seen on 2026-11-27, seed 0: 15 numbers share none with the first 15 of 64, 17 share the first
#   only, 16 and 32 share all. torch.rand has no such break.
# For a user: one sample of 2, 8 or 10 latents is not the first of a hundred; draw each sample from
#   a generator of its own.
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
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


def drawn(n, draw=torch.randn):
    return draw(n, generator=torch.Generator().manual_seed(0))


shared = {}
for n in (8, 15, 16, 17, 20, 32):
    shared[n] = int((drawn(n) == drawn(64)[:n]).sum())
    print(f"randn({n}) shares {shared[n]} numbers with the first {n} of randn(64)")
    assert torch.equal(drawn(n, torch.rand), drawn(64, torch.rand)[:n])
assert shared == {8: 0, 15: 0, 16: 16, 17: 1, 20: 4, 32: 32}
EOF
