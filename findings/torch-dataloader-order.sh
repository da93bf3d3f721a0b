#!/usr/bin/env bash
# What: under one seeded generator, the order in which a DataLoader shuffles its later epochs
#   depends on two things that look harmless: persistent_workers=True, and whether the epoch before
#   was read to its end.
# Versions: torch 2.14.1.
# Seen on 2026-11-27: ten items, three epochs: none and two workers give the same three orders; two
#   persistent workers, or no workers and a break after the only batch, agree in the first epoch
#   and in no other.
# For a user: a setting of speed, a smoke test of one batch or a limit on steps changes the rest of
#   a training; make the order a function of seed and epoch instead.
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

from itertools import islice

import torch
from torch.utils.data import DataLoader

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


def orders(stop=None, **options):
    draw = torch.Generator().manual_seed(0)
    loader = DataLoader(range(10), batch_size=10, shuffle=True, generator=draw, **options)
    return [[batch.tolist() for batch in islice(loader, stop)] for _ in range(3)]


plain = orders()
others = {
    "two workers": (orders(num_workers=2), [True, True, True]),
    "persistent": (orders(num_workers=2, persistent_workers=True), [True, False, False]),
    "not read to the end": (orders(stop=1), [True, False, False]),
}
for name, (found, expected) in others.items():
    same = [a == b for a, b in zip(plain, found)]
    print(f"{name}: epochs as without workers: {same}")
    assert same == expected, name
EOF
