#!/usr/bin/env bash
# What: log_loss clips probabilities at the machine epsilon of their type, so a confident mistake
#   costs at most 15.94 nats in float32, 6.93 in float16 and 36.04 in float64, whatever its true
#   cost.
# Versions: scikit-learn 1.9.1, numpy 2.4.6.
# Seen on 2026-11-27: p = 1e-20 for the true class, 46.05 nats, is reported as 15.9424 in float32.
# For a user: compute the cross-entropy from logits or log-probabilities; a mean that includes
#   clipped values is too low, and depends on the type.
set -euo pipefail
packages=(numpy==2.4.6 scikit-learn==1.9.1)
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
from sklearn.metrics import log_loss

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
true = -np.log(1e-20)
for kind, most in ((np.float32, 15.9424), (np.float64, 36.0437)):
    cost = log_loss([0], np.array([[1e-20, 1]], kind), labels=[0, 1])
    print(f"{kind.__name__}: {cost:.4f} nats for {true:.4f}")
    assert abs(cost - most) < 1e-3
EOF
