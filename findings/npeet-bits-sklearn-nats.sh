#!/usr/bin/env bash
# What: two k-nearest-neighbour estimators of mutual information answer in different units by
#   default: NPEET (here its package npeet-plus) in bits, scikit-learn's mutual_info_regression in
#   nats.
# Versions: npeet-plus 0.2.0, scikit-learn 1.9.1, numpy 2.4.6.
# Seen on 2026-11-27: correlation 0.8, 1,000 values, mean of 5 draws: 0.808 and 0.559, a quotient
#   of 1.444 (1 / log 2 is 1.443).
# For a user: give NPEET base=math.e, and name the unit beside every number.
set -euo pipefail
packages=(numpy==2.4.6 scikit-learn==1.9.1 npeet-plus==0.2.0)
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

import math

import npeet_plus
import numpy as np
from sklearn.feature_selection import mutual_info_regression

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
theirs, sklearns, nats = [], [], []
for seed in range(5):
    x, noise = np.random.default_rng(seed).standard_normal((2, 1000))
    y = 0.8 * x + 0.6 * noise
    theirs.append(npeet_plus.mi(x[:, None], y[:, None]))
    nats.append(npeet_plus.mi(x[:, None], y[:, None], base=math.e))
    sklearns.append(mutual_info_regression(x[:, None], y)[0])
ratio = np.mean(theirs) / np.mean(sklearns)
print(f"npeet {np.mean(theirs):.3f}, scikit-learn {np.mean(sklearns):.3f}, quotient {ratio:.3f}")
assert abs(ratio * math.log(2) - 1) < 0.03
assert abs(np.mean(nats) / np.mean(sklearns) - 1) < 0.03
EOF
