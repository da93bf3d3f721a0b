#!/usr/bin/env bash
# What: torch.optim.swa_utils.update_bn, which gives averaged weights their batch-norm statistics, also
#   takes them from layers that are frozen. A layer that a module keeps in eval mode (by a `train` of its
#   own, as frozen backbones do) is set to mean 0 and variance 1, and never gets new statistics, since it
#   never trains; one that was only put into eval mode is trained on whatever passes.
# Versions: torch 2.14.1.
# Seen on 2026-11-30: a network whose first batch norm is frozen with means about 3 and variances about 4.
#   After update_bn on the very images that these statistics are of, the frozen layer says mean 0 and
#   variance 1, and the network's answers are off by 1.4 times their deviation. Nothing is said.
# For a user: an average of fine-tuned weights is garbage behind a frozen backbone.
# torch takes gigabytes: name a Python that has it in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 numpy==2.4.6)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import copy
import sys
from importlib.metadata import version

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Frozen(nn.Sequential):
    """Stays in eval mode."""

    def train(self, mode=True):
        return super().train(False)


torch.manual_seed(0)
images = 3 + 2 * torch.randn(512, 8)
frozen = nn.BatchNorm1d(8, affine=False)
frozen.running_mean.copy_(images.mean(0))
frozen.running_var.copy_(images.var(0))
network = nn.Sequential(Frozen(frozen), nn.Linear(8, 4))
averaged = AveragedModel(network)
averaged.update_parameters(network)
right = averaged.eval()(images).detach()

told = copy.deepcopy(averaged)
update_bn(images.split(64), told)
layer = told.module[0][0]
off = float((told.eval()(images) - right).square().mean().sqrt() / right.std())
print(f"kept in eval mode: mean {layer.running_mean[0]:.1f}, variance {layer.running_var[0]:.1f}")
print(f"the answers are off by {off:.1f} of their deviation")
assert not layer.running_mean.any() and (layer.running_var == 1).all() and off > 1

network = nn.Sequential(frozen.eval(), nn.Linear(8, 4))
averaged = AveragedModel(network)
update_bn((5 + images).split(64), averaged)
print(f"put into eval mode: mean {averaged.module[0].running_mean[0]:.1f}")
assert averaged.module[0].running_mean[0] > 7
EOF
