#!/usr/bin/env bash
# What: a function compiled by torch's inductor that adds 0 to a value, or multiplies it by 1, and returns
#   the result beside the detached value, returns the result without a gradient. Objectives do just that:
#   a loss plus a penalty that is switched off, and the loss by itself, detached, to be logged.
# Versions: torch 2.14.1.
# Seen on 2026-11-30, on a CPU: `z = y + 0.0; return z, y.detach()` and `z = y * 1.0` need no gradient when
#   compiled by inductor; uncompiled, and compiled by `aot_eager`, they do. Returned alone, beside
#   `z.detach()` only, or beside a `y` that is not detached, z keeps its gradient. With another summand or
#   factor all is well.
# Known to its makers: pytorch pull request 195357, closed on 2026-11-30; the released version has it.
# For a user: `backward` stops with "element 0 of tensors does not require grad", and where several losses
#   are added up afterwards the one is left out in silence.
# Needs a C++ compiler. torch takes gigabytes: name a Python that has it in PYTHON to spare the
# installation.
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
import sys
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


def returning(change, beside):
    def function(weights):
        y = weights.square().sum()
        z = change(y)
        return (z, *beside(y, z))

    return function


CHANGES = {"+ 0.0": lambda y: y + 0.0, "* 1.0": lambda y: y * 1.0, "+ 1.0": lambda y: y + 1.0}
BESIDE = {
    "alone": lambda y, z: (),
    "z.detach()": lambda y, z: (z.detach(),),
    "y": lambda y, z: (y,),
    "y.detach()": lambda y, z: (y.detach(),),
}
weights = torch.ones(3, requires_grad=True)
for backend in ("aot_eager", "inductor"):
    for change, changed in CHANGES.items():
        for beside, returned in BESIDE.items():
            torch._dynamo.reset()
            function = returning(changed, returned)
            assert function(weights)[0].requires_grad
            kept = torch.compile(function, backend=backend)(weights)[0].requires_grad
            print(f"{backend}: z = y {change}, returned with {beside}: has a gradient: {kept}")
            lost = backend == "inductor" and change != "+ 1.0" and beside == "y.detach()"
            assert kept != lost
# Two losses, one of which is lost.
torch._dynamo.reset()
first, _ = torch.compile(returning(CHANGES["+ 0.0"], BESIDE["y.detach()"]))(weights)
(first + weights.sum()).backward()
print(f"gradient of sum(w^2) + sum(w) at 1: {weights.grad.tolist()}, which should be 3")
assert weights.grad.tolist() == [1.0, 1.0, 1.0]
EOF
