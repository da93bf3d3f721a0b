#!/usr/bin/env bash
# What: APGD, APGDT, FAB and Square of torchattacks seed torch's global generator in each call, by default
#   with 0. Whatever is drawn after an attack is the same after every batch.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-30: after each of three batches of APGD, FAB and Square the next torch.randn(2) is the
#   same; after PGD it is not.
# For a user: a loop that attacks, and then draws latents, dropout masks or augmentations, draws the same
#   in each step; so does an estimate of a stochastic encoder's accuracy. Keep the generator's state
#   (torch.random.fork_rng) around the attack.
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
network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
batches = torch.rand(3, 8, 3, 4, 4)
attacks = {
    "PGD": torchattacks.PGD(network, steps=2),
    "APGD": torchattacks.APGD(network, steps=2),
    "FAB": torchattacks.FAB(network, steps=2),
    "Square": torchattacks.Square(network, n_queries=5),
}
for name, attack in attacks.items():
    drawn = []
    for images in batches:
        attack(images, network(images).argmax(1))
        drawn.append(torch.randn(2))
    print(f"drawn after each batch of {name}:", *(f"{a:.3f} {b:.3f};" for a, b in drawn))
    same = all(torch.equal(each, drawn[0]) for each in drawn)
    assert same == (name != "PGD")
EOF
