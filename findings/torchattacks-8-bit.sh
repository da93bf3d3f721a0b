#!/usr/bin/env bash
# What: save(save_type="int") of torchattacks truncates pixels to bytes instead of rounding them,
#   so saved adversarial images lie a level outside the ball.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-27: PGD at 8/255 on 8-bit images: saved bytes are up to 9 levels away from the
#   clean ones; rounded, the same points are at most 8 away.
# For a user: save floats, and round oneself; robust accuracy on files saved as int is that at
#   9/255.
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

import os
import tempfile

import torch
import torchattacks
from torch.utils.data import DataLoader, TensorDataset

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
levels = torch.randint(20, 236, (16, 3, 8, 8))
images = levels / 255
labels = network(images).argmax(1)
attack = torchattacks.PGD(network, eps=8 / 255, alpha=2 / 255, steps=10)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "saved.pt")
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    attack.save(loader, save_path=path, verbose=False, save_type="int")
    saved = torch.load(path, weights_only=True)["adv_inputs"]
rounded = (attack(images, labels) * 255).round()
truncated, nearest = ((x.int() - levels).abs().max().item() for x in (saved, rounded))
print(f"saved as {saved.dtype}: up to {truncated} levels away; rounded: {nearest}")
assert (truncated, nearest) == (9, 8)
EOF
