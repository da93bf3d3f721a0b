#!/usr/bin/env bash
# What: torchattacks' AutoAttack raises IndexError for classifiers of two or three classes, because
#   its DLR losses sort more logits than there are; from four on it runs.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-27: 2 classes: index -3 is out of bounds for dimension 1 with size 2; 3 classes:
#   index -4 with size 3; 4 classes: runs.
# For a user: give APGD loss="ce" and FAB and Square by hand there, or use a suite that replaces
#   the DLR loss.
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

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
images = torch.rand(4, 3, 8, 8)
for classes in (2, 3, 4):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes)).eval()
    labels = network(images).argmax(1)
    try:
        torchattacks.AutoAttack(network, eps=8 / 255, n_classes=classes)(images, labels)
        said = "runs"
    except IndexError as error:
        said = f"IndexError: {error}"
    print(f"{classes} classes: {said}")
    assert said.startswith("IndexError") == (classes < 4)
EOF
