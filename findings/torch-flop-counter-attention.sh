#!/usr/bin/env bash
# What: torch.utils.flop_counter has no formula for the attention of CPUs: scaled_dot_product_attention
#   counts as 0 operations there, in a network and in a step. On a CPU and without gradients a whole
#   nn.TransformerEncoderLayer in eval mode counts as 0, linear layers and all.
# Versions: torch 2.14.1.
# Seen on 2026-12-01: attention of 8 heads, 64 tokens and 16 values: 0 operations by default, 2,097,152 by
#   SDPBackend.MATH, as by hand. An encoder layer of 64 values for 256 tokens: 16,777,216 with gradients
#   and 0 without, for 33,554,432. The formulas of GPUs' kernels are there. The docstring says
#   "unsupported operations contribute zero FLOPs", and not that attention is one.
# For a user: counts of transformers that are taken on a CPU are too low, the more the more tokens. Count
#   under sdpa_kernel(SDPBackend.MATH), with gradients on.
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
from contextlib import nullcontext
from importlib.metadata import version

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode, flop_registry

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


def counted(call, by_products=False):
    kernel = sdpa_kernel(SDPBackend.MATH) if by_products else nullcontext()
    with kernel, FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def step(by_products):
    heads = torch.rand(2, 4, 64, 16, requires_grad=True)
    return counted(lambda: scaled_dot_product_attention(heads, heads, heads).sum().backward(), by_products)


truth = 2 * 2 * (2 * 4) * 64 * 64 * 16  # two products, each of a multiplication and an addition
heads = torch.rand(2, 4, 64, 16)
found = [counted(lambda: scaled_dot_product_attention(heads, heads, heads), each) for each in (False, True)]
print(f"attention: {found[0]:,} operations, by products {found[1]:,}, by hand {truth:,}")
assert found == [0, truth]
print(f"a step of it: {step(False):,}, by products {step(True):,}, by hand {3 * truth:,}")
assert (step(False), step(True)) == (0, 3 * truth)

tokens, width = 256, 64
layer = nn.TransformerEncoderLayer(width, 4, 128, batch_first=True).eval()
images = torch.rand(1, tokens, width)
linear = 2 * tokens * width * (4 * width + 2 * 128)
truth = linear + 2 * 2 * tokens**2 * width
with_gradients = counted(lambda: layer(images))
products = counted(lambda: layer(images), by_products=True)
with torch.no_grad():
    without = counted(lambda: layer(images))
print(f"an encoder layer: {with_gradients:,} with gradients, {without:,} without,", end=" ")
print(f"by products {products:,}, by hand {truth:,}")
assert (with_gradients, without, products) == (linear, 0, truth)
assert torch.ops.aten._scaled_dot_product_flash_attention in flop_registry
assert torch.ops.aten._scaled_dot_product_flash_attention_for_cpu not in flop_registry
EOF
