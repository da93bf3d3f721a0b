#!/usr/bin/env bash
# What: dit's rate-distortion curve minimises R + beta D with R in bits, so its beta is a slope in
#   bits per unit of distortion: for a fair coin D = 1 / (1 + 2^beta), where the textbook's slope
#   in nats gives 1 / (1 + e^beta).
# Versions: dit 2.3, numpy 2.4.6.
# Seen on 2026-11-27: beta 1, 2, 3 give D = 0.3333, 0.2000, 0.1111 (by e: 0.2689, 0.1192, 0.0474).
# For a user: multiply dit's beta by log 2 before comparing it with an alpha or a slope in nats.
set -euo pipefail
packages=(numpy==2.4.6 dit==2.3)
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
from dit.rate_distortion.blahut_arimoto import blahut_arimoto

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
for beta in (1.0, 2.0, 3.0):
    point, _ = blahut_arimoto(np.array([0.5, 0.5]), beta, restarts=2)
    bits, nats = 1 / (1 + 2**beta), 1 / (1 + np.exp(beta))
    print(f"beta {beta:g}: D = {point.distortion:.4f}; in bits {bits:.4f}, in nats {nats:.4f}")
    assert abs(point.distortion - bits) < 1e-4 < abs(point.distortion - nats)
EOF
