#!/usr/bin/env bash
# What: np.logaddexp.reduce adds one term after the other, so a million float32 log-densities lose
#   what float32 cannot hold beside the running sum; scipy's logsumexp, which subtracts the largest
#   and sums by pairs, does not.
# Versions: numpy 2.4.6, scipy 1.17.1.
# Seen on 2026-11-27: a million times -100: 1.34 nats too low; a million times 0: 0.056 too low;
#   logsumexp is right to 1e-5.
# For a user: use logsumexp, or float64, wherever a log-density is a sum over many components (a
#   mixture, an aggregate posterior).
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
from scipy.special import logsumexp

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
n = 1_000_000
for value in (0.0, -100.0):
    exact = value + np.log(n)
    x = np.full(n, value, np.float32)
    errors = [float(f(x)) - exact for f in (np.logaddexp.reduce, logsumexp)]
    print(f"{n:,} times {value}: reduce is off by {errors[0]:.4f}, logsumexp by {errors[1]:.1e}")
    assert errors[0] < (-1.3 if value else -0.05) and abs(errors[1]) < 1e-4
EOF
