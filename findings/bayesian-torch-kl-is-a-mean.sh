#!/usr/bin/env bash
# What: the KL divergence of bayesian-torch's layers is the mean over the entries of each weight tensor,
#   and get_kl_loss adds up those means. The divergence of a network of independent weights is the sum.
# Versions: bayesian-torch 0.5.0, torch 2.14.1 (its issue 36 asks why).
# Seen on 2026-12-01: a linear layer of 784 x 100 weights and 100 biases: 5.06 nats where torch's own
#   kl_divergence, summed, gives 198,676; a weight counts 784 times less than a bias. The docstring says
#   "Calculates kl divergence between two gaussians (Q || P)", and the README divides it by the batch
#   size.
# For a user: the prior weighs next to nothing, and a bound or a description length from it is off by the
#   number of weights. Sum it oneself, as here.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 bayesian-torch==0.5.0)
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
from bayesian_torch.layers import LinearReparameterization
from bayesian_torch.models.dnn_to_bnn import get_kl_loss
from torch import nn
from torch.distributions import Normal, kl_divergence

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
layer = LinearReparameterization(784, 100)
prior = Normal(0.0, 1.0)
with torch.no_grad():
    said = get_kl_loss(nn.Sequential(layer)).item()
    weights, biases = (
        kl_divergence(Normal(mean, nn.functional.softplus(rho)), prior)
        for mean, rho in ((layer.mu_weight, layer.rho_weight), (layer.mu_bias, layer.rho_bias))
    )
print(f"get_kl_loss: {said:.3f} nats")
print(
    f"by torch: sum {(weights.sum() + biases.sum()).item():.0f}, means {weights.mean() + biases.mean():.3f}"
)
assert abs(said - (weights.mean() + biases.mean()).item()) < 1e-3
assert said < 1e-4 * (weights.sum() + biases.sum()).item()
EOF
