#!/usr/bin/env bash
# What: the SSIM of one pair of images in [0, 1] is three numbers by default: pytorch-msssim takes them
#   for 0 to 255; piq averages images of 384 pixels and more down before it compares; torchmetrics takes
#   the range from the batch, so that an image's score depends on what is beside it.
# Versions: pytorch-msssim 1.0.0, piq 0.8.0, torchmetrics 1.9.0, torch 2.14.1.
# Seen on 2026-11-30: noise of 0.1 on smooth 512 x 512 images: 0.9998, 0.944 and 0.619, and 0.623 by the
#   first two with data_range=1 and downsample=False. A dark image has 0.883 alone and 0.896 beside a
#   bright one by torchmetrics.
# For a user: name the range and the scale in every call, and with every number.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchmetrics==1.9.0 piq==0.8.0 pytorch-msssim==1.0.0)
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

import piq
import pytorch_msssim
import torch
from torch.nn.functional import interpolate
from torchmetrics.functional.image import structural_similarity_index_measure

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.manual_seed(0)
images = interpolate(torch.rand(4, 3, 64, 64), size=512, mode="bicubic").clamp(0, 1)
noisy = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
found = {
    "pytorch-msssim": pytorch_msssim.ssim(noisy, images).item(),
    "pytorch-msssim, data_range=1": pytorch_msssim.ssim(noisy, images, data_range=1).item(),
    "piq": piq.ssim(noisy, images).item(),
    "piq, downsample=False": piq.ssim(noisy, images, downsample=False).item(),
    "torchmetrics": structural_similarity_index_measure(noisy, images).item(),
}
for name, value in found.items():
    print(f"{name}: {value:.4f}")
assert found["pytorch-msssim"] > 0.999 and 0.9 < found["piq"] < 0.98
assert all(0.6 < found[name] < 0.65 for name in found if "," in name or name == "torchmetrics")
pair = torch.rand(2, 3, 64, 64) * torch.tensor([0.2, 1.0]).view(2, 1, 1, 1)
noisy = (pair + 0.03 * torch.randn_like(pair)).clamp(0, 1)
alone = structural_similarity_index_measure(noisy[:1], pair[:1]).item()
beside = structural_similarity_index_measure(noisy, pair, reduction="none")[0].item()
print(f"torchmetrics, a dark image: {alone:.3f} alone, {beside:.3f} beside a bright one")
assert beside - alone > 0.005
EOF
