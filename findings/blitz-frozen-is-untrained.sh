#!/usr/bin/env bash
# What: blitz keeps each mean and deviation in two parameters that share their memory, one that is trained
#   and one that freeze_() predicts by. Whatever moves or copies the module, as .double(), .to(device) or
#   copy.deepcopy does, parts the two: training goes on in one, and the other stays at its first values.
# Versions: blitz-bayesian-pytorch 0.2.8, torch 2.14.1.
# Seen on 2026-12-01: a linear network fitted to a variance of 36: mean squared error of the mean of 50
#   draws 0.00, and after freeze_() 0.00 too; with .double() or copy.deepcopy before training 38. (Without
#   a GPU at hand .to(device) was not run.)
# For a user: a network that was trained on a GPU is evaluated, frozen, by untrained weights; weight_mu in
#   its state_dict are these. Average draws, or copy weight_sampler.mu back first.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchvision==0.29.1 blitz-bayesian-pytorch==0.2.8)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import copy
import sys
from importlib.metadata import version

import torch
from blitz.modules import BayesianLinear
from blitz.utils import variational_estimator
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


@variational_estimator
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = BayesianLinear(4, 1)

    def forward(self, x):
        return self.layer(x)


changes = {"as made": lambda n: n, ".double()": lambda n: n.double(), "deepcopy": copy.deepcopy}
for name, change in changes.items():
    torch.manual_seed(0)
    network = change(Network())
    x = torch.randn(256, 4).to(network.layer.weight_mu.dtype)
    y = 3 * x.sum(1, keepdim=True) + 1
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(500):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        drawn = (torch.stack([network(x) for _ in range(50)]).mean(0) - y).square().mean().item()
        network.freeze_()
        frozen = (network(x) - y).square().mean().item()
        trained = x @ network.layer.weight_sampler.mu.T + network.layer.bias_sampler.mu
    print(f"{name}: variance {y.var().item():.0f}, error of 50 draws {drawn:.2f}, frozen {frozen:.2f}")
    assert drawn < 0.01 and (trained - y).square().mean() < 0.01
    assert (frozen < 0.01) == (name == "as made") and (frozen < 0.01 or frozen > 20)
EOF
