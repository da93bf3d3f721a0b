#!/usr/bin/env bash
# What: foolbox attacks a model in the mode in which it is given; of one in training mode it warns
#   once, and every query moves batch norm's running statistics towards the adversarial images.
# Versions: foolbox 3.3.4, torch 2.14.1.
# Seen on 2026-11-27: LinfPGD of 10 steps on a fresh batch norm: 11 batches counted, the running
#   mean moved by 0.32; with eval() nothing moves.
# For a user: model.eval() before every attack, and back after it; a warning in a log is the only
#   trace.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 foolbox==3.3.4)
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

import foolbox
import torch
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)


def moved(training):
    """Batches that batch norm counted, and how far its running mean went."""
    norm = nn.BatchNorm2d(8)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    model = foolbox.PyTorchModel(network.train(training), bounds=(0, 1), device="cpu")
    foolbox.attacks.LinfPGD(steps=10)(model, images, labels, epsilons=8 / 255)
    return norm.num_batches_tracked.item(), norm.running_mean.abs().max().item()


(seen, far), still = moved(True), moved(False)
print(f"training mode: {seen} batches, mean moved by {far:.3f}; eval mode: {still}")
assert seen == 11 and far > 0.01 and still == (0, 0.0)
EOF
