#!/usr/bin/env bash
# What: torch.optim.swa_utils.AveragedModel counts its updates in a tensor, and in every update
#   branches twice on that tensor's value (is it 0, is it above 0). Where the counter is on a GPU,
#   by `device=` or `.to`, the host waits for the device in every step that averages the weights.
# Versions: torch 2.14.1.
# Seen on 2026-11-28: two reads of a tensor's value in each update, none in torch._foreach_lerp_ over
#   the same weights with the number of steps in Python; the averages are equal.
# For a user: in a loop that must not wait, count the steps in Python and move the average yourself.
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
import copy
import sys
from importlib.metadata import version

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Reads(TorchDispatchMode):
    """Counts how often Python asks for the value of a tensor."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
own = copy.deepcopy(model).requires_grad_(False)
reads = {"AveragedModel": 0, "_foreach_lerp_": 0}
for step in range(5):
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))
    with Reads() as seen:
        averaged.update_parameters(model)
    reads["AveragedModel"] += seen.count
    with Reads() as seen, torch.no_grad():
        share = 1.0 if step == 0 else 0.1
        torch._foreach_lerp_(list(own.parameters()), list(model.parameters()), weight=share)
    reads["_foreach_lerp_"] += seen.count
for left, right in zip(averaged.module.parameters(), own.parameters()):
    torch.testing.assert_close(left, right)
print(f"values read in 5 updates: {reads}")
assert reads == {"AveragedModel": 10, "_foreach_lerp_": 0}
EOF
