#!/usr/bin/env bash
# What: APGD of torchattacks returns the clean image itself wherever it does not change the decision, and
#   not the point of the largest loss that it found; so do APGDT, FAB and Square.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-30: a linear classifier at 5/255: each of the 45 images of 50 that stand comes back
#   bit for bit; the mean loss is 1.679 after APGD, 1.743 after PGD of as many steps, 1.672 of the clean
#   images.
# For a user: adversarial training on what it returns is training on clean images wherever the model
#   holds, and losses or latents of adversarial images look too mild. Its accuracy is right.
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
from torch.nn.functional import cross_entropy

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
images = torch.rand(50, 3, 4, 4)
labels = network(images).argmax(1)
clean = cross_entropy(network(images), labels).item()
attacks = {
    "PGD": torchattacks.PGD(network, eps=5 / 255, alpha=1.25 / 255, steps=10),
    "APGD": torchattacks.APGD(network, eps=5 / 255, steps=10),
    "APGDT": torchattacks.APGDT(network, eps=5 / 255, steps=10),
    "FAB": torchattacks.FAB(network, eps=5 / 255, steps=10),
    "Square": torchattacks.Square(network, eps=5 / 255, n_queries=100),
}
print(f"clean images: loss {clean:.3f}")
losses = {}
for name, attack in attacks.items():
    found = attack(images, labels)
    stand = network(found).argmax(1) == labels
    same = (found == images).flatten(1).all(1)
    losses[name] = cross_entropy(network(found), labels).item()
    print(f"{name}: {stand.sum()} of 50 stand, {same.sum()} are clean, loss {losses[name]:.3f}")
    assert torch.equal(same, stand) if name != "PGD" else not same.any()
assert losses["APGD"] - clean < 0.25 * (losses["PGD"] - clean)
EOF
