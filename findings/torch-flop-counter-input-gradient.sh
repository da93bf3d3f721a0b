#!/usr/bin/env bash
# What: torch.utils.flop_counter.FlopCounterMode cannot count a step that takes the gradient of its
#   input by torch.autograd.grad: the hooks by which it tells modules apart raise in any module that
#   this input enters. So no adversarial or second-order training step can be counted, where
#   `.backward()` on the same graph can.
# Versions: torch 2.14.1.
# Seen on 2026-11-28: RuntimeError "A leaf node was passed to _will_engine_execute_node ..." for the
#   gradient of the images of one linear layer, with and without create_graph; `backward()` is counted.
# For a user: count in a TorchDispatchMode of your own, by the formulas of
#   torch.utils.flop_counter.flop_registry; below both ways are counted alike.
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Plain(TorchDispatchMode):
    """Sums the same formulas, and knows of no modules."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            formula = flop_registry[func._overloadpacket]
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


torch.manual_seed(0)
layer = torch.nn.Linear(5, 4)
images = torch.rand(3, 5)


def by_backward():
    x = images.clone().requires_grad_()
    layer(x).sum().backward()


def by_grad(**more):
    x = images.clone().requires_grad_()
    torch.autograd.grad(layer(x).sum(), [x], **more)


with FlopCounterMode(display=False) as counter:
    by_backward()
with Plain() as plain:
    by_backward()
print(f"backward(): {counter.get_total_flops()} counted, {plain.total} by the formulas alone")
# Forward, gradient of the weights and gradient of the input: 2 * 3 * 5 * 4 each.
assert counter.get_total_flops() == plain.total == 3 * 120

for more in ({}, {"create_graph": True}):
    try:
        with FlopCounterMode(display=False):
            by_grad(**more)
    except RuntimeError as error:
        said = str(error)
    else:
        raise SystemExit(f"autograd.grad is counted now, with {more}")
    print(f"autograd.grad {more}: RuntimeError: {said}")
    assert "_will_engine_execute_node" in said
    with Plain() as plain:
        by_grad(**more)
    # No gradient of the weights is asked for.
    assert plain.total == 2 * 120, plain.total
EOF
