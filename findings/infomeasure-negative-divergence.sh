#!/usr/bin/env bash
# What: infomeasure sums cross-entropy and Kullback-Leibler divergence of discrete data over the values
#   that both samples have. What one sample has and the other lacks should make them infinite; there it
#   makes them smaller, and the divergence comes out below 0. Nothing is said unless no value is shared.
# Versions: infomeasure 0.6.3, numpy 2.4.6.
# Seen on 2026-12-01: a fair coin from a coin that always shows 0: -0.693 nats. Ten equal classes from a
#   classifier that knows one of them: -2.303, five -1.498, nine -0.325, all ten 0.000. The docstring says
#   "sum over x in X of P(x) log(P(x) / Q(x))".
# For a user: a model that never predicts some classes looks better than one that does. Compare the sets
#   of values first.
set -euo pipefail
packages=(infomeasure==0.6.3 numpy==2.4.6)
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

import infomeasure
import numpy as np

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
divergence = infomeasure.kullback_leiber_divergence
assert "P(x) \\log \\left( \\frac{P(x)}{Q(x)}" in divergence.__doc__
coin = divergence([0, 1] * 500, [0] * 1000, approach="discrete")
print(f"a fair coin from one that always shows 0: {coin:.3f} nats")
assert abs(coin + np.log(2)) < 1e-9
classes = np.arange(10_080) % 10
for known in (10, 9, 5, 1):
    found = divergence(classes, np.arange(10_080) % known, approach="discrete")
    print(f"ten equal classes from {known} of them: {found:.3f} nats")
    assert abs(found - (known * np.log(known) / 10 - np.log(10))) < 1e-9
    assert (found < -0.1) == (known < 10)
EOF
