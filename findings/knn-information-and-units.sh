#!/usr/bin/env bash
# What: mutual information does not depend on the units of x and y. Estimates by nearest neighbours do,
#   and libraries differ in whether they scale the data first: ennemi and scikit-learn do, infomeasure,
#   npeet-plus and entropy-estimators do not.
# Versions: infomeasure 0.6.3, npeet-plus 0.2.0, entropy-estimators 0.0.2, ennemi 1.5.0, scikit-learn
#   1.9.1, numpy 2.4.6, scipy 1.17.1.
# Seen on 2026-11-30: correlation 0.8, 2,000 values, x in metres and in millimetres: 0.526 and 0.526
#   nats by the first two, 0.527 and 0.061, 0.526 and 0.099, 0.504 and -0.178 by the others.
# For a user: give all variables one scale first, above all latents of unlike spread.
set -euo pipefail
packages=(numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 infomeasure==0.6.3 npeet-plus==0.2.0
    entropy-estimators==0.0.2 ennemi==1.5.0)
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

import ennemi
import infomeasure
import npeet_plus
import numpy as np
from entropy_estimators import continuous
from sklearn.feature_selection import mutual_info_regression

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
estimates = {
    "ennemi": lambda x, y: ennemi.estimate_mi(y, x).item(),
    "scikit-learn": lambda x, y: mutual_info_regression(x[:, None], y, random_state=0)[0],
    "infomeasure": lambda x, y: infomeasure.mutual_information(x, y, approach="metric"),
    "npeet-plus": lambda x, y: npeet_plus.mi(x, y) * np.log(2),
    "entropy-estimators": lambda x, y: continuous.get_mi(x, y, k=3),
}
x, y = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 2000).T
print(f"truth: {-0.5 * np.log(1 - 0.8**2):.3f} nats")
for name, estimate in estimates.items():
    metres, millimetres = estimate(x, y), estimate(1000 * x, y)
    print(f"{name}: {metres:.3f} nats in metres, {millimetres:.3f} in millimetres")
    assert abs(metres - 0.511) < 0.05
    if name in ("ennemi", "scikit-learn"):
        assert abs(millimetres - metres) < 1e-6
    else:
        assert millimetres < 0.5 * metres
EOF
