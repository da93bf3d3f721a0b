#!/usr/bin/env bash
# What: safetensors.numpy writes an array in the order in which it lies in memory, but keeps its
#   shape; Fortran-ordered arrays, such as a transpose, come back with their values shuffled,
#   without an error. safetensors.torch refuses such tensors.
# Versions: safetensors 0.8.0, numpy 2.4.6.
# Seen on 2026-11-27: [[0 3] [1 4] [2 5]] comes back as [[0 1] [2 3] [4 5]].
# For a user: np.ascontiguousarray before safetensors.numpy.save_file; .T, np.asfortranarray and
#   the output of scikit-learn's PCA on few rows are Fortran-ordered.
set -euo pipefail
packages=(numpy==2.4.6 safetensors==0.8.0)
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
from safetensors.numpy import load, save

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
z = np.arange(6.0).reshape(2, 3).T
back = load(save({"z": z}))["z"]
print("saved", z.tolist(), "read", back.tolist())
assert back.shape == z.shape and not np.array_equal(back, z)
assert np.array_equal(back.ravel(), z.ravel(order="K"))
assert np.array_equal(load(save({"z": np.ascontiguousarray(z)}))["z"], z)
EOF
