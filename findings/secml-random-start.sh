#!/usr/bin/env bash
# What: the random start of secml-torch's own attacks takes the image plus noise for the perturbation, and
#   projects that onto the ball. In Linf nearly every pixel is then brightened by all of eps, and every
#   restart is the same; in L2 the start points along the image.
# Versions: secml-torch 1.5, torch 2.14.1.
# Seen on 2026-11-30: images in [0.2, 0.8], eps 8/255: 100% of pixels start at +8/255, and two starts are
#   equal; in L2 at 0.5 the cosine of two starts is 0.98, and of a start and its image 0.99.
# For a user: restarts add nothing, and each search starts from a brighter image. Draw the start yourself.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 secml-torch==1.5)
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
from secmlt.optimization.initializer import RandomLpInitializer
from torch.nn.functional import cosine_similarity

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
images = torch.rand(64, 3, 4, 4) * 0.6 + 0.2
start = RandomLpInitializer(radius=8 / 255, perturbation_model="linf")
first, second = start(images), start(images)
corner = (first == 8 / 255).float().mean().item()
equal = torch.equal(first, second)
print(f"Linf: {corner:.0%} of pixels start at +eps; two starts are equal: {equal}")
assert corner == 1 and equal
start = RandomLpInitializer(radius=0.5, perturbation_model="l2")
first, second = start(images).flatten(1), start(images).flatten(1)
starts = cosine_similarity(first, second).mean().item()
along = cosine_similarity(first, images.flatten(1)).mean().item()
print(f"L2: cosine of two starts {starts:.2f}, of a start and its image {along:.2f}")
assert starts > 0.95 and along > 0.95
EOF
