#!/usr/bin/env bash
# What: blitz adds 1e-6 to the density of the prior before it takes the logarithm, so a weight that is far
#   from the prior costs at most 13.8 nats, and is not pulled back: the gradient of its cost is 0.
# Versions: blitz-bayesian-pytorch 0.2.8, torch 2.14.1.
# Seen on 2026-12-01: the default prior, deviation 0.1, posteriors of deviation 0.01: a mean of 0.3 costs
#   6.3 nats, as by the closed form; one of 1 costs 17.0 for 51.8, and one of 2 17.0 for 201.8. The
#   gradient at 1 and at 2 is 0.00, where it should be 100 and 200.
# For a user: complexities are too low, and weights of pretrained networks, which often lie five
#   deviations of that prior away, are as good as free of it. Choose a wide prior_sigma_1.
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
import sys
from importlib.metadata import version

import torch
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianLinear
from torch.distributions import Normal, kl_divergence

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
for mean in (0.3, 1.0, 2.0):
    layer = BayesianLinear(100, 100, bias=False)  # many alike: their mean is close to what is expected
    with torch.no_grad():
        layer.weight_mu.fill_(mean)
        layer.weight_rho.fill_(0.01).expm1_().log_()  # softplus of it is 0.01
    layer(torch.zeros(1, 100))
    cost = kl_divergence_from_nn(layer) / 10_000
    cost.backward()
    slope = layer.weight_sampler.mu.grad.sum().item()
    truth = kl_divergence(Normal(mean, 0.01), Normal(0.0, 0.1)).item()
    print(
        f"a mean of {mean}: {cost.item():.2f} nats for {truth:.2f}, slope {slope:.2f} for {mean / 0.01:.0f}"
    )
    if mean < 0.5:
        assert abs(cost.item() - truth) < 0.1 and abs(slope / (mean / 0.01) - 1) < 0.02
    else:
        assert 16 < cost.item() < 18 and abs(slope) < 1e-3
EOF
