#!/usr/bin/env bash
# What: a PyTorchClassifier of the Adversarial Robustness Toolbox puts the model into eval mode to
#   predict and to take gradients, and leaves it there.
# Versions: adversarial-robustness-toolbox 1.20.1, torch 2.14.1.
# Seen on 2026-11-27: model.train(), then predict() or loss_gradient(): model.training is False.
# For a user: a training loop that makes adversarial images by ART goes on without dropout and with
#   frozen batch norm unless it calls train() again.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 packaging==26.4 adversarial-robustness-toolbox==1.20.1)
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

import numpy as np
from art.estimators.classification import PyTorchClassifier
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 10))
model = PyTorchClassifier(network, nn.CrossEntropyLoss(), (3, 4, 4), 10, clip_values=(0, 1))
images = np.random.default_rng(0).random((8, 3, 4, 4)).astype(np.float32)
calls = {
    "predict": lambda: model.predict(images),
    "loss_gradient": lambda: model.loss_gradient(images, np.eye(10)[:8]),
}
for name, call in calls.items():
    network.train()
    call()
    print(f"training mode before {name}, after it: training = {network.training}")
    assert not network.training
EOF
