#!/usr/bin/env bash
# What: after an attack torchattacks puts the whole model back into the mode of its outermost
#   module, so batch norm that was frozen with .eval() inside a training model is in training mode
#   afterwards, and its statistics move from then on.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-27: model.train(), batch norm .eval(): training is False before PGD and True
#   after it; the next forward pass moves the running mean.
# For a user: freeze batch norm again after each attack of an adversarial fine-tuning, or give
#   torchattacks a copy.
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
norm = nn.BatchNorm2d(8)
network = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
network.train()
norm.eval()
before = norm.running_mean.clone()
torchattacks.PGD(network, eps=8 / 255, steps=2)(images, labels)
attacked = norm.running_mean.clone()
network(images)
moved = (norm.running_mean - before).abs().max().item()
print(f"frozen before, training mode after: {norm.training}; the next pass moves it {moved:.3f}")
assert norm.training and torch.equal(attacked, before) and moved > 0
EOF
