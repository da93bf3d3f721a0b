#!/usr/bin/env bash
# What: the gradient that ART's PyTorchRandomizedSmoothing gives to an attack is that of the network at
#   the image itself, without noise. The smoothed one has to be asked for by sampling=True, which ART's
#   own attacks do not pass: they attack the network under the smoothing.
# Versions: adversarial-robustness-toolbox 1.20.1, torch 2.14.1, numpy 2.4.6.
# Seen on 2026-11-30: a steep network, whose gradient at the images is 0: after FGSM at 0.1 all of 20
#   images stand under smoothing; with sampled gradients none does.
# For a user: accuracy of a smoothed classifier under attack is too high. Override loss_gradient, as here.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(numpy==2.4.6 packaging==26.4 torch==2.14.1 adversarial-robustness-toolbox==1.20.1)
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
import torch
from art.attacks.evasion import FastGradientMethod
from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
np.random.seed(0)


class Steep(nn.Module):
    """Is the mean pixel above one half? A step, so that its gradient is 0 but close to it."""

    def forward(self, x):
        side = torch.tanh(1000 * (x.flatten(1).mean(1) - 0.5))
        return torch.stack([-5 * side, 5 * side], 1)


class Sampled(PyTorchRandomizedSmoothing):
    def loss_gradient(self, x, y, **kwargs):
        return super().loss_gradient(x, y, sampling=True, **kwargs)


images = np.random.uniform(0.3, 0.7, (20, 3, 4, 4)).astype(np.float32)
images += 0.54 - images.mean((1, 2, 3), keepdims=True)
labels = np.eye(2)[np.ones(20, int)]
stand = []
for kind in (PyTorchRandomizedSmoothing, Sampled):
    model = kind(
        model=Steep(), loss=nn.CrossEntropyLoss(), input_shape=(3, 4, 4), nb_classes=2,
        clip_values=(0, 1), device_type="cpu", sample_size=1000, scale=0.25,
    )
    largest = np.abs(model.loss_gradient(images, labels)).max()
    found = FastGradientMethod(model, eps=0.1).generate(images, labels)
    stand.append((model.predict(found, is_abstain=False).argmax(1) == 1).mean())
    print(f"{kind.__name__}: largest gradient {largest:.1e}, {stand[-1]:.0%} of 20 images stand")
assert stand == [1, 0]
EOF
