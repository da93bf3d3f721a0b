#!/usr/bin/env bash
# What: each string that compressai's entropy coder returns is about 48 bits longer than the cost
#   -log2 p of its symbols, and a whole number of 32-bit words.
# Versions: compressai 1.2.8, torch 2.14.1.
# Seen on 2026-11-27: Gaussian symbols of scale 2, mean of 20 strings: 16 symbols 96 bits for 47,
#   256 symbols 832 for 784, 4,096 symbols 12,594 for 12,544.
# For a user: bits per image from len(string) exceed the estimated rate by some 6 bytes a string;
#   of a few latents most of the file is that.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 compressai==1.2.8)
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

import torch
from compressai.entropy_models import GaussianConditional

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
model = GaussianConditional([0.5, 1.0, 2.0, 4.0])
model.update()
for n in (16, 256, 4096):
    length = cost = 0.0
    for _ in range(20):
        scales = torch.full((1, n, 1, 1), 2.0)
        symbols = (2 * torch.randn(1, n, 1, 1)).round()
        (string,) = model.compress(symbols, model.build_indexes(scales))
        assert len(string) % 4 == 0
        length += 8 * len(string) / 20
        cost -= model(symbols, scales, training=False)[1].log2().sum().item() / 20
    print(f"{n} symbols: {length:.1f} bits for {cost:.1f}, {length - cost:.1f} more")
    assert 40 < length - cost < 60
EOF
