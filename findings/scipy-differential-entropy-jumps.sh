#!/usr/bin/env bash
# What: by default differential_entropy takes another estimator from 1,001 values on (Vasicek's for
#   Ebrahimi's), whose bias differs; a curve of entropy against sample size jumps there.
# Versions: scipy 1.17.1, numpy 2.4.6.
# Seen on 2026-11-27: mean of 300 draws of a standard normal (1.4189 nats): 1.4295 at 1,000 values,
#   1.4091 at 1,001: a step of 0.020 nats.
# For a user: name a method where sample sizes are compared; 0.02 nats a dimension is 1.3 nats over
#   64.
set -euo pipefail
packages=(numpy==2.4.6 scipy==1.17.1)
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
from scipy.stats import differential_entropy

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
draws = [np.random.default_rng(seed).standard_normal(1001) for seed in range(300)]


def mean(n, **options):
    return float(np.mean([differential_entropy(x[:n], **options) for x in draws]))


exact = 0.5 * np.log(2 * np.pi * np.e)
before, after = mean(1000), mean(1001)
print(f"exact {exact:.4f}, 1,000 values {before:.4f}, 1,001 values {after:.4f}")
assert 0.018 < before - after < 0.023 and after < exact < before
named = mean(1000, method="vasicek") - mean(1001, method="vasicek")
print(f"with one named method the step is {named:.5f}")
assert abs(named) < 1e-3
EOF
