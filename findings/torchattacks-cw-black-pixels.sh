#!/usr/bin/env bash
# What: the C&W attack of torchattacks searches in the space of atanh(2 x - 1), where a pixel that is
#   exactly 0 or 1 lies at infinity and has no gradient: it is never changed. foolbox and cleverhans first
#   shrink pixels by a millionth.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-30: a linear classifier, c = 10, 200 steps, black and white images: no pixel is changed
#   and all of 50 images stand; with pixels at 0.001 and 0.999 none does.
# For a user: digits, and anything on a black or white ground, are searched in a few of their pixels.
#   Squeeze the images into [0.001, 0.999] before the attack, and say so.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchattacks==3.5.1)
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
import torchattacks
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
images = (torch.rand(50, 3, 8, 8) > 0.5).float()
labels = network(images).argmax(1)
attack = torchattacks.CW(network, c=10, steps=200)
stand = []
for shift in (0.0, 0.001):
    given = images.clamp(shift, 1 - shift)
    found = attack(given, labels)
    stand.append((network(found).argmax(1) == labels).float().mean().item())
    changed = ((found - given).abs() > 1e-5).float().mean().item()
    print(f"pixels at {shift:g} and {1 - shift:g}: {changed:.0%} changed, {stand[-1]:.0%} stand")
    assert (changed == 0) == (shift == 0)
assert stand[0] == 1 and stand[1] < 0.1
EOF
