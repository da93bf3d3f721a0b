#!/usr/bin/env bash
# What: with two or more metadata keys, safetensors writes them in another order each time, so
#   equal contents give different bytes, also within one process. With one key the bytes are always
#   the same.
# Versions: safetensors 0.8.0, numpy 2.4.6.
# Seen on 2026-11-27: 20 saves with four keys gave 15 digests (the number varies), with one key
#   one.
# For a user: put everything in one key, as sorted JSON, where files are compared, cached or signed
#   by their digest.
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

import hashlib

import numpy as np
from safetensors.numpy import save

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
tensors = {"z": np.zeros(2)}


def digests(metadata):
    return {hashlib.sha256(save(tensors, metadata)).hexdigest() for _ in range(20)}


several = digests({"name": "a", "commit": "b", "seed": "0", "data": "c"})
one = digests({"all": '{"commit": "b", "data": "c", "name": "a", "seed": 0}'})
print("digests of 20 saves:", len(several), "with four keys,", len(one), "with one")
assert len(several) > 1 and len(one) == 1
EOF
