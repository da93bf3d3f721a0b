#!/usr/bin/env bash
# What: numpy has no bfloat16; an array of ml_dtypes' bfloat16 is saved to .npz and .npy without a
#   warning, and comes back as raw bytes of type V2, which neither numpy nor safetensors takes for
#   numbers.
# Versions: numpy 2.4.6, ml_dtypes 0.6.0.
# Seen on 2026-11-27: [1.5 2.5] comes back as [b'\xC0\x3F' b'\x20\x40'], and astype(float32) raises
#   ValueError.
# For a user: convert to float32 before np.savez; a file that is there already is read with
#   .view(ml_dtypes.bfloat16).
set -euo pipefail
packages=(numpy==2.4.6 ml_dtypes==0.6.0)
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

import io

import ml_dtypes
import numpy as np

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
file = io.BytesIO()
saved = np.array([1.5, 2.5], dtype=ml_dtypes.bfloat16)
np.savez(file, z=saved)
file.seek(0)
back = np.load(file)["z"]
print("saved", saved.dtype, "read", back.dtype, back.tolist())
assert back.dtype == np.dtype("V2")
try:
    back.astype(np.float32)
except ValueError as error:
    print("astype(float32):", error)
else:
    raise AssertionError("V2 has become numbers")
assert np.array_equal(back.view(ml_dtypes.bfloat16), saved)
EOF
