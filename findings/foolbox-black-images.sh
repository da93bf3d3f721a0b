#!/usr/bin/env bash
# What: where the C&W attack of foolbox finds nothing it returns a black image, and with epsilons=None
#   that image is judged like any other: as most classifiers call black something else, a search that
#   failed is reported as a success. EADAttack does the same.
# Versions: foolbox 3.3.4, torch 2.14.1.
# Seen on 2026-11-30: a linear classifier that rounds its pixels, and so has no gradient: PGD finds 0% of
#   100 images, C&W and EAD 84% at a median distance of 3.94; all images that they return are black.
# For a user: a network that hides its gradients looks broken, at a distance that nobody searched for.
#   Count what is black as not found.
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


class Rounds(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(48, 10)

    def forward(self, x):
        return self.linear((x * 255).round().flatten(1) / 255 - 0.5)


network = Rounds().eval()
images = torch.rand(100, 3, 4, 4)
model = foolbox.PyTorchModel(network, bounds=(0, 1))
labels = model(images).argmax(1)
attack = foolbox.attacks.LinfPGD(steps=10, random_start=False)
_, _, success = attack(model, images, labels, epsilons=8 / 255)
print(f"PGD: {success.float().mean():.0%} found")
assert not success.any()
attacks = {
    "C&W": foolbox.attacks.L2CarliniWagnerAttack(steps=100),
    "EAD": foolbox.attacks.EADAttack(steps=100),
}
for name, attack in attacks.items():
    found, _, success = attack(model, images, labels, epsilons=None)
    distance = (found - images).flatten(1).norm(dim=1).median().item()
    black = (found == 0).flatten(1).all(1)
    print(
        f"{name}: {success.float().mean():.0%} found, median distance {distance:.2f},"
        f" {black.float().mean():.0%} of the images are black"
    )
    assert success.float().mean() > 0.8 and black.all()
EOF
