#!/usr/bin/env bash
# What: pythae's recon_loss is half the summed squared error in VAE, BetaVAE, BetaTCVAE,
#   INFOVAE_MMD and IWAE, and the whole of it in AE, WAE_MMD, RAE_L2 and VQVAE; the configuration
#   says mse for all.
# Versions: pythae 0.1.2, torch 2.14.1.
# Seen on 2026-11-27: with a decoder that draws black images recon_loss is 0.500 of the summed
#   squares for the first five, 1.000 for the others (of AE its loss).
# For a user: beta of pythae's VAEs is half of the weight that belongs to a summed squared error;
#   distortions of its models compare only after doubling some.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 pythae==0.1.2)
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
from pythae import models
from pythae.data.datasets import DatasetOutput
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Black(BaseDecoder):
    def forward(self, z):
        return ModelOutput(reconstruction=torch.zeros(len(z), 1, 4, 4))


images = torch.rand(8, 1, 4, 4)
summed = images.square().flatten(1).sum(1).mean()
halves = dict.fromkeys(["VAE", "BetaVAE", "BetaTCVAE", "INFOVAE_MMD", "IWAE"], 0.5)
for name, share in (halves | dict.fromkeys(["AE", "WAE_MMD", "RAE_L2", "VQVAE"], 1.0)).items():
    config = getattr(models, f"{name}Config", None) or getattr(models, f"{name}_Config")
    model = getattr(models, name)(config(input_dim=(1, 4, 4), latent_dim=2), decoder=Black())
    answer = model.eval()(DatasetOutput(data=images))
    found = answer.get("recon_loss", answer.loss) / summed  # all that AE has is its loss
    print(f"{name}: recon_loss is {found:.3f} of the summed squared error")
    assert abs(found - share) < 1e-5, name
EOF
