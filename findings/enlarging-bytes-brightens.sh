#!/usr/bin/env bash
# What: enlarging 8-bit images to twice their size, bilinear, rounds halves upwards in each of two
#   passes, and so brightens by a quarter of a grey level on average; Pillow and torchvision do it
#   alike. Enlarging floats, or by three, does not.
# Versions: Pillow 13.0.0, torchvision 0.29.1, torch 2.14.1, numpy 2.4.6.
# Seen on 2026-11-27: random bytes: +0.249 levels by Pillow, +0.249 by torchvision, 0.000 at three
#   times the size.
# For a user: enlarge after converting to float where the mean matters; images enlarged as bytes
#   and as floats are not the same test set.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(numpy==2.4.6 pillow==13.0.0 torch==2.14.1 torchvision==0.29.1)
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
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
pixels = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
as_bytes = torch.from_numpy(pixels)[None]
for times, expected in ((2, 0.25), (3, 0.0)):
    size = [256 * times] * 2
    exact = resize(as_bytes.double(), size, antialias=True).mean().item()
    pillow = np.asarray(Image.fromarray(pixels).resize(size, Image.BILINEAR)).mean() - exact
    torchvision = resize(as_bytes, size, antialias=True).double().mean().item() - exact
    print(f"{times} times: Pillow {pillow:+.3f}, torchvision {torchvision:+.3f} levels")
    assert abs(pillow - expected) < 0.01 and abs(torchvision - expected) < 0.01
EOF
