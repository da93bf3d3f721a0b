#!/usr/bin/env bash
# What: PGD of secml-torch in the L1 norm puts its step into the largest entry of the gradient of the
#   whole batch, and not of each image: only the image that holds that entry is moved.
# Versions: secml-torch 1.5, torch 2.14.1.
# Seen on 2026-11-30: a linear classifier, 20 steps, 64 images: in batches of 1 all images are changed, of
#   8 one in each, of 64 one; 20%, 88% and 98% stand. L2 and Linf change all of them in any batch.
# For a user: accuracy in L1 rises with the batch size, up to that of clean images. Attack one image at a
#   time.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 secml-torch==1.5)
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
from secmlt.adv.backends import Backends
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(12, 10)).eval()
images = torch.rand(64, 3, 2, 2) * 0.6 + 0.2
labels = network(images).argmax(1)
for norm, epsilon, step in (("l1", 1.0, 0.1), ("l2", 0.5, 0.05), ("linf", 0.1, 0.02)):
    for size in (1, 8, 64):
        attack = PGD(norm, epsilon, num_steps=20, step_size=step, backend=Backends.NATIVE)
        batches = DataLoader(TensorDataset(images, labels), batch_size=size)
        found = torch.cat([x for x, _ in attack(BasePyTorchClassifier(network), batches)])
        stand = (network(found).argmax(1) == labels).float().mean()
        changed = (found != images).flatten(1).any(1).sum().item()
        print(f"{norm}, batches of {size}: {changed} of 64 images changed, {stand:.0%} stand")
        assert changed == (64 // size if norm == "l1" else 64)
EOF
