#!/usr/bin/env bash
# What: the calibration error of torchmetrics for binary tasks is that of the probability of class 1,
#   where its documentation says "Top-label Calibration Error" and "the top-1 prediction accuracy in bin
#   i". For the same answers of the same network task="multiclass" with two classes gives another number.
# Versions: torchmetrics 1.9.0, torch 2.14.1 (its issues 1105 and 2519 ask about it, and are closed).
# Seen on 2026-12-01: 50 answers of 0.95, of which 45 are right, and 50 of 0.05, all right: a confidence
#   of 0.95 in each, and 95% of them true. The top-label error is 0.000 by numpy and by "multiclass", and
#   0.050 by "binary". Right for 60% of each class, sure by 0.995: both 0.395.
# For a user: two-class and many-class calibration errors are not of one kind. Give two columns, and
#   num_classes=2, where the error of the decision is meant.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchmetrics==1.9.0 numpy==2.4.6)
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
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
assert "Top-label Calibration Error" in binary_calibration_error.__doc__
assert "top-1 prediction accuracy in bin" in binary_calibration_error.__doc__


def by_numpy(confidences, hits):
    bins = np.minimum((confidences * 10).astype(int), 9)
    of_bins = [abs((hits - confidences)[bins == b].sum()) for b in range(10)]
    return sum(of_bins) / len(hits)


cases = {
    "unevenly right": ([0.95] * 50 + [0.05] * 50, [1] * 45 + [0] * 55, 0.0, 0.05),
    "evenly right": ([0.995] * 50 + [0.005] * 50, [1] * 30 + [0] * 20 + [0] * 30 + [1] * 20, 0.395, 0.395),
}
for name, (said, classes, top_label, of_class_1) in cases.items():
    said, classes = np.array(said), np.array(classes)
    one, columns = torch.tensor(said), torch.tensor(np.stack([1 - said, said], 1))
    binary = float(binary_calibration_error(one, torch.tensor(classes), n_bins=10))
    multiclass = float(multiclass_calibration_error(columns, torch.tensor(classes), 2, n_bins=10))
    top = by_numpy(np.maximum(said, 1 - said), (said > 0.5) == classes)
    print(f"{name}: binary {binary:.3f}, multiclass {multiclass:.3f}, top label by numpy {top:.3f}")
    assert abs(multiclass - top) < 1e-5 and abs(top - top_label) < 1e-5
    assert abs(binary - of_class_1) < 1e-5 and abs(binary - by_numpy(said, classes)) < 1e-5
EOF
