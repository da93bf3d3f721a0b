#!/usr/bin/env bash
# What: in bf16 on a CPU, a convolution whose input is smaller than its stride leaves part of the gradient of
#   its weights as it finds the memory: the taps that lie over padding alone, whose gradient is 0, are not
#   written. Last layers of networks for photos meet such inputs when they are given small images.
# Versions: torch 2.14.1.
# Seen on 2026-11-30, on a CPU with AVX512-BF16: inputs of 1x1 with stride 2 and of 2x2 with stride 3, kernels
#   of 3, 5 and 7 with padding, in both layouts of memory. Where NaN had been in that memory, NaN came out.
#   fp32, kernels of 1, and inputs as large as the stride are right, and so are outputs and the gradient of the
#   input.
# For a user: two runs of one seed differ, norms of gradients (for clipping) are of anything, and now and then
#   a training ends with NaN for which no learning rate is to blame.
# Needs a CPU with bf16 instructions. torch takes gigabytes: name a Python that has it in PYTHON to spare the
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
capabilities = torch.cpu.get_capabilities()
assert capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"), "not seen on such a CPU"


def wrong(side, stride, kernel, bf16):
    """Of 20 gradients, how many are not those of fp32."""
    found = 0
    for _ in range(20):
        layer = torch.nn.Conv2d(16, 32, kernel, stride, kernel // 2, bias=False)
        images = torch.randn(8, 16, side, side)
        layer(images).square().sum().backward()
        right, layer.weight.grad = layer.weight.grad, None
        # Memory that something else has used.
        used = [torch.full((n,), float("nan")) for n in (4608, 9216, 65536)]
        del used
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(images)
        out.float().square().sum().backward()
        gap = (layer.weight.grad - right).abs().max()
        found += not gap <= 0.1 * right.abs().max()
    return found


torch.manual_seed(0)
for side, stride, kernel in [(1, 2, 3), (1, 2, 5), (2, 3, 3), (1, 1, 3), (2, 2, 3), (4, 2, 3), (1, 2, 1)]:
    counts = [wrong(side, stride, kernel, bf16) for bf16 in (False, True)]
    print(f"input {side}x{side}, stride {stride}, kernel {kernel}: wrong of 20 in fp32, bf16: {counts}")
    assert counts[0] == 0 and (counts[1] > 0) == (side < stride and kernel > 1)
EOF
