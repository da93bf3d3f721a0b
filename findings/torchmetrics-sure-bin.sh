#!/usr/bin/env bash
# What: the calibration error of torchmetrics has one bin more than it was asked for, for confidences
#   of exactly 1, which float32 gives from logits some 17 apart.
# Versions: torchmetrics 1.9.0, torch 2.14.1 (its issue 3510 says the same).
# Seen on 2026-11-30: ten answers of confidence 1, nine of them right, and ten of confidence 0.95, all
#   right, lie in the last of ten bins, where 0.975 was said and 0.95 came true: 0.025. It says 0.075,
#   as it does with 15 bins; with confidences of 1 - 1e-6 for those of 1 it says 0.025.
# For a user: calibration errors from there and from elsewhere are not to be compared.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchmetrics==1.9.0)
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
from torchmetrics.functional.classification import multiclass_calibration_error

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"

assert torch.tensor([20.0, 0.0]).softmax(0)[0] == 1
wrong = 9  # the last of those that were surest
classes = torch.zeros(20, dtype=torch.int64)
classes[wrong] = 1
for sure, expected in ((1.0, 0.075), (1 - 1e-6, 0.025)):
    said = torch.tensor([sure] * 10 + [0.95] * 10, dtype=torch.float64)
    answers = torch.stack([said, 1 - said], 1)
    for bins in (10, 15):
        found = float(multiclass_calibration_error(answers, classes, num_classes=2, n_bins=bins))
        print(f"confidences {sure:.6f} and 0.95, {bins} bins: {found:.4f}")
        assert abs(found - expected) < 1e-5
EOF
