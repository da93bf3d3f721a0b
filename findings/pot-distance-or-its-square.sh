#!/usr/bin/env bash
# What: POT returns the 2-Wasserstein distance from some functions and its square from others; the
#   names do not tell which.
# Versions: POT 0.9.7, numpy 2.4.6.
# Seen on 2026-11-27: for a shift by (3, 4), so a distance of 5: bures_wasserstein_distance 5, emd2
#   of squared costs 25, gmm_ot_loss 25; on a line for a shift by 3: wasserstein_1d(p=2) 9, emd2_1d
#   9.
# For a user: take the root oneself of emd2, emd2_1d, wasserstein_1d and gmm_ot_loss, and not of
#   bures_wasserstein_distance or sliced_wasserstein_distance.
set -euo pipefail
packages=(numpy==2.4.6 POT==0.9.7)
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
import ot

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
x = np.random.default_rng(0).standard_normal((200, 2))
shift = np.array([3.0, 4.0])
gaussians = np.zeros(2), shift, np.eye(2), np.eye(2)
mixtures = [each[None] for each in gaussians] + [np.ones(1)] * 2
even = np.full(200, 1 / 200)
found = {
    "bures_wasserstein_distance": (ot.gaussian.bures_wasserstein_distance(*gaussians), 5),
    "emd2": (ot.emd2(even, even, ot.dist(x, x + shift)), 25),
    "gmm_ot_loss": (ot.gmm.gmm_ot_loss(*mixtures), 25),
    "wasserstein_1d(p=2)": (ot.wasserstein_1d(x[:, 0], x[:, 0] + 3, p=2), 9),
    "emd2_1d": (ot.emd2_1d(x[:, 0], x[:, 0] + 3), 9),
}
for name, (value, expected) in found.items():
    print(f"{name}: {float(value):.4f}")
    assert abs(value - expected) < 1e-6 * expected, name
EOF
