#!/usr/bin/env bash
# What: torch.cdist takes differences through a matrix product from 26 rows on; between float32
#   points that lie close together, compared with their length, most distances come out 0 or as
#   noise, and nearest neighbours are wrong.
# Versions: torch 2.14.1.
# Seen on 2026-11-27: 1,000 points in 64 dimensions, 1e-3 apart, around a point of length 8: 57% of
#   distances are 0, and 0.6% of nearest neighbours are right.
# For a user: compute_mode="donot_use_mm_for_euclid_dist", or float64, or centre the points, before
#   looking for near-duplicates among embeddings.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1)
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

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
n, dim = 1000, 64
points = torch.randn(1, dim) + 1e-3 / (2 * dim) ** 0.5 * torch.randn(n, dim)
apart = ~torch.eye(n, dtype=torch.bool)


def nearest(distances):
    return distances.masked_fill(~apart, torch.inf).argmin(1)


plain = torch.cdist(points, points)
careful = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
truth = torch.cdist(*[points.double()] * 2, compute_mode="donot_use_mm_for_euclid_dist")
zero = (plain[apart] == 0).float().mean().item()
right, best = ((nearest(d) == nearest(truth)).float().mean().item() for d in (plain, careful))
print(f"true mean {truth[apart].mean():.1e}; {zero:.0%} come out 0; nearest right: {right:.1%}")
print(f"without the matrix product: {best:.1%}")
assert zero > 0.3 and right < 0.05 and best > 0.99
EOF
