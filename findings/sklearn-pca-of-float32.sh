#!/usr/bin/env bash
# What: from ten rows a column on, PCA takes the eigenvalues of a covariance that it computes as
#   X'X - n mean mean' in the type of the data; for float32 data away from zero small variances
#   drown, and come out as 0. svd_solver="full" and float64 are right.
# Versions: scikit-learn 1.9.1, numpy 2.4.6.
# Seen on 2026-11-27: 64 columns around 10 with variances from 1 to 1e-4: at 639 rows none is off
#   by more than 1%, at 640 rows 28 of 64 are; around 100, 57 of 64.
# For a user: convert latents to float64, or centre them, before PCA; otherwise active dimensions
#   seem to collapse as rows are added.
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
from sklearn.decomposition import PCA

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
scale = np.geomspace(1, 0.01, 64)


def wrong(rows, centre, **options):
    """Columns of 64 whose variance is off by more than 1%, beside that in float64."""
    noise = np.random.default_rng(0).standard_normal((rows, 64))
    x = (centre + scale * noise).astype(np.float32)
    exact = PCA(svd_solver="full").fit(x.astype(np.float64)).explained_variance_
    found = PCA(**options).fit(x).explained_variance_
    return int((np.abs(found / exact - 1) > 0.01).sum())


few, many, far = wrong(639, 10), wrong(640, 10), wrong(640, 100)
full = wrong(640, 100, svd_solver="full")
print(f"off by over 1%: {few} at 639 rows, {many} at 640; around 100 {far}, full solver {full}")
assert few == full == 0 and many > 20 and far > 45
EOF
