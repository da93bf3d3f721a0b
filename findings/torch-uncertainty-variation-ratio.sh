#!/usr/bin/env bash
# What: VariationRatio of torch-uncertainty asks for probabilities of shape (images, members, classes), as
#   its other measures of ensembles do, and takes the first dimension for the members: it measures how
#   much images of a batch differ, not members.
# Versions: torch-uncertainty 0.13.0, lightning 2.6.6, torch 2.14.1.
# Seen on 2026-12-01: five members that agree to the last bit, 1,000 images of ten classes: 0.889 in one
#   batch, 0.768 in batches of ten, where the ratio is 0 and the library's Disagreement says 0.000; image
#   by image it is 0. The example of its docstring says 0.45, where the shape that it names gives 0.35 by
#   hand.
# For a user: any ensemble seems to disagree about everything, the more the larger the batch. Swap the
#   first two dimensions, and give all images at once.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torch-uncertainty==0.13.0 lightning==2.6.6)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}" \
        "torch-uncertainty[cpu]==0.13.0" # whose import needs what the extra brings
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import sys
from importlib.metadata import version

import torch
from torch_uncertainty.metrics import Disagreement, VariationRatio

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
assert "where :math:`B` is the batch size" in VariationRatio.__init__.__doc__
example = torch.tensor([[[0.7, 0.3], [0.6, 0.4], [0.8, 0.2]], [[0.4, 0.6], [0.5, 0.5], [0.3, 0.7]]])
found, by_hand = VariationRatio()(example).item(), (1 - example.mean(1).amax(1)).mean().item()
print(f"the docstring's example: {found:.3f}, by hand {by_hand:.3f}")
assert abs(found - 0.45) < 1e-6 and abs(by_hand - 0.35) < 1e-6
torch.manual_seed(0)
alike = torch.randn(1000, 1, 10).softmax(2).expand(-1, 5, -1)  # every member says the same
for batch in (1, 10, 1000):
    ratio = torch.stack([VariationRatio(probabilistic=False)(each) for each in alike.split(batch)]).mean()
    print(f"members that agree, batches of {batch}: {ratio:.3f}")
    assert (ratio == 0) if batch == 1 else (ratio > 0.7)
disagreement = Disagreement()(alike).item()
swapped = VariationRatio(probabilistic=False)(alike.transpose(0, 1)).item()
print(f"Disagreement {disagreement:.3f}; VariationRatio of (members, images, classes) {swapped:.3f}")
assert disagreement == 0 and swapped == 0
EOF
