#!/usr/bin/env bash
# What: on a CPU the fused optimisers of torch read state and gradients in the order of memory, and
#   not by their strides: what lies otherwise than its parameter moves the wrong weights, and nothing
#   is said. A file of safetensors holds what is contiguous, so whoever keeps the state of channels_last
#   weights there and goes on from it comes upon this.
# Versions: torch 2.14.1, safetensors 0.8.0.
# Seen on 2026-11-30: a 3x3 convolution in channels_last, three steps, the state through a file, one
#   more step. Unfused, it is the step of an uninterrupted training to the last bit; fused, it is off
#   by up to 1.1 times the largest change of that step (SGD) and 1.6 times (Adam). Laid out as the
#   parameter, the same state gives the uninterrupted step. A contiguous gradient of such weights does
#   the same in a first step. (On GPUs fused kernels refuse other
#   strides, says pytorch issue 106951; no GPU was at hand.)
# For a user: a training that goes on after an interruption gets worse for no visible reason.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 safetensors==0.8.0 numpy==2.4.6)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"

KINDS = {
    "SGD": lambda weights, fused: torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=fused),
    "Adam": lambda weights, fused: torch.optim.Adam(weights, lr=0.1, fused=fused),
}
images = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))


def begin(make, fused):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, bias=False).to(memory_format=torch.channels_last)
    return layer, make(layer.parameters(), fused)


def step(layer, optimizer):
    optimizer.zero_grad()
    layer(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    assert layer.weight.grad.stride() == layer.weight.stride()  # autograd's are laid out alike
    optimizer.step()
    return layer.weight.detach().clone()


def through_a_file(optimizer, like=None):
    """Its state, written and read; laid out as `like` where that is given."""
    tensors = {name: each for name, each in optimizer.state_dict()["state"][0].items()
               if isinstance(each, torch.Tensor)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        save_file({name: each.contiguous() for name, each in tensors.items()}, file)
        found = load_file(file)
    if like is not None:
        found = {name: torch.empty_like(like).copy_(each) if each.shape == like.shape else each
                 for name, each in found.items()}  # fmt: skip
    optimizer.load_state_dict({"state": {0: found}, "param_groups": optimizer.state_dict()["param_groups"]})


for name, make in KINDS.items():
    found = []
    for fused in (False, True):
        layer, optimizer = begin(make, fused)
        layer.weight.grad = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        found.append(layer.weight.detach().clone())
    print(f"{name}: a contiguous gradient, fused less unfused {float((found[1] - found[0]).abs().max()):.2f}")
    assert not torch.allclose(*found, atol=0.1)

for name, make in KINDS.items():
    for fused in (False, True):
        off = {}
        for how in ("uninterrupted", "as it was read", "laid out as the weights"):
            layer, optimizer = begin(make, fused)
            for _ in range(3):
                before = step(layer, optimizer)
            if how != "uninterrupted":
                through_a_file(optimizer, layer.weight if how.startswith("laid") else None)
            after = step(layer, optimizer)
            if how == "uninterrupted":
                right, largest = after, (after - before).abs().max()
            else:
                off[how] = float((after - right).abs().max() / largest)
        print(f"{name}, fused={fused}: off by so much of the step's largest change: {off}")
        assert off["laid out as the weights"] == 0
        assert (off["as it was read"] > 0.1) == fused, off
        assert fused or off["as it was read"] == 0
EOF
