#!/usr/bin/env bash
# What: PGD of 10 steps of default length is three attacks: torchattacks steps by 2/255 whatever
#   eps is, foolbox by eps / 30, so that it covers a third of the ball, and ART by 0.1, so that
#   below eps = 0.1 it jumps from face to face.
# Versions: torchattacks 3.5.1, foolbox 3.3.4, adversarial-robustness-toolbox 1.20.1, torch 2.14.1.
# Seen on 2026-11-27: a linear classifier, eps 32/255, no random start: after 10 steps the largest
#   change is 20/255, 10.7/255 and 32/255, and 58.7%, 98.0% and 1.5% of the images stand.
# For a user: name the step, and compare robust accuracies of two libraries only at equal steps.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchattacks==3.5.1 foolbox==3.3.4 packaging==26.4
    adversarial-robustness-toolbox==1.20.1)
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
import torchattacks
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
images = 0.3 + 0.4 * torch.rand(400, 1, 8, 8)
labels, eps = network(images).argmax(1), 32 / 255
foolboxs = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
arts = PyTorchClassifier(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1))
first = torchattacks.PGD(network, eps=eps, steps=10, random_start=False)
second = foolbox.attacks.LinfPGD(steps=10, random_start=False)
third = ProjectedGradientDescent(arts, eps=eps, max_iter=10, verbose=False)
found = {
    "torchattacks": first(images, labels),
    "foolbox": second(foolboxs, images, labels, epsilons=eps)[1],
    "ART": torch.from_numpy(third.generate(images.numpy(), labels.numpy())),
}
for (name, points), levels in zip(found.items(), (20, 32 / 3, 32)):
    far = 255 * (points - images).abs().max().item()
    stand = (network(points).argmax(1) == labels).float().mean().item()
    print(f"{name}: moved by {far:.1f}/255, {stand:.1%} stand")
    assert abs(far - levels) < 0.1
EOF
