#!/usr/bin/env bash
# What: thop counts neither the operations nor the parameters of attention, nor parameters that a module
#   holds by itself (position and class tokens), and says nothing. It leaves buffers of its own in the
#   model, whose state_dict then does not load into a fresh one.
# Versions: thop 0.1.1.post2209072238, torch 2.14.1, torchvision 0.29.1.
# Seen on 2026-12-01: of ViT-B/16 at 224 pixels thop counts 11.29 of 17.56 billion multiplications and
#   58.1 of 86.6 million parameters; of ResNet-18 all, by half a percent more multiplications than torch.
#   The state_dict of the former has 124 new keys, that of the latter 18.
# For a user: a transformer looks a third cheaper beside a convolutional network. Count by
#   torch.utils.flop_counter (mind torch-flop-counter-attention.sh), and a copy of the model.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchvision==0.29.1 thop==0.1.1.post2209072238)
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
from thop import profile
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, vit_b_16

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0].replace("-", ".post") == wanted, f"{name} is {version(name)}"
images = torch.rand(1, 3, 224, 224)
tokens, width = 14 * 14 + 1, 768
layer = tokens * width * (4 * width + 8 * width) + 2 * tokens**2 * width  # projections, attention
by_hand = 12 * layer + (tokens - 1) * width * 3 * 16**2 + width * 1000
for make, share, missing in ((vit_b_16, (0.63, 0.65), 28_500_480), (resnet18, (0.99, 1.01), 0)):
    network = make().eval()
    keys = set(network.state_dict())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    truth = by_hand if make is vit_b_16 else counter.get_total_flops() / 2
    parameters = sum(each.numel() for each in network.parameters())
    counted, counted_parameters = profile(network, (images,), verbose=False)
    added = set(network.state_dict()) - keys
    print(f"{make.__name__}: {counted:,.0f} of {truth:,.0f} multiplications,", end=" ")
    print(f"{counted_parameters:,.0f} of {parameters:,} parameters, {len(added)} new keys")
    assert share[0] < counted / truth < share[1]
    assert parameters - counted_parameters == missing
    try:
        make().load_state_dict(network.state_dict())
    except RuntimeError as error:
        print(" ", *str(error).split()[:9])
        assert added and "total_ops" in str(error)
    else:
        raise AssertionError("the state_dict loads")
EOF
