#!/usr/bin/env bash
# What: the C&W attack of torchattacks takes the true class's logit by max(one_hot * outputs), where the
#   other entries are 0. Of a model that returns log-probabilities, which are all below 0, that maximum is
#   0 and has no gradient, and so is the other classes': the attack moves no pixel and says nothing.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Seen on 2026-11-30: a linear classifier, c = 10, 100 steps: 0% of 50 images stand where it returns
#   logits, 100% where it returns log_softmax of them, 0% again where 100 is added to the latter.
# For a user: nothing is robust for that. Attack logits, or add a constant that makes outputs positive.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchattacks==3.5.1)
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
import torchattacks
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
images = torch.rand(50, 3, 4, 4)
labels = network(images).argmax(1)


class Outputs(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.network, self.of = network, of

    def forward(self, x):
        return self.of(self.network(x))


outputs = {
    "logits": lambda logits: logits,
    "log-probabilities": lambda logits: logits.log_softmax(1),
    "log-probabilities + 100": lambda logits: logits.log_softmax(1) + 100,
}
for name, of in outputs.items():
    found = torchattacks.CW(Outputs(of), c=10, steps=100)(images, labels)
    stand = (network(found).argmax(1) == labels).float().mean().item()
    moved = (found - images).abs().max().item()
    print(f"{name}: {stand:.0%} stand, the largest change of a pixel is {moved:.3f}")
    assert (stand, moved) == (1, 0) if name == "log-probabilities" else stand < 0.1
EOF
