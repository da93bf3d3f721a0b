#!/usr/bin/env bash
# What: an output of an ONNX export may get the name of an operation inside, and the file is then
#   invalid. torch.onnx.export calls what an operation gives by the operation, as `mean`, and renames
#   the outputs as `output_names` asks, without a look at whether the two meet.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2.
# Seen on 2026-11-28: an encoder that averages over pixels and gives two outputs is exported without a
#   word under the names mean, log_variance; the file has two values `mean`, which onnx's checker
#   refuses ("used as output names multiple times"), and onnxruntime 1.32.0 does not load
#   ("Duplicate definition of name"). Under the names mu, log_variance it is valid.
# For a user: check the file after the export. `paradise export` renames what is inside, and runs it.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    PYTHON="$folder/venv/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
cat >"$folder/names.py" <<'EOF'
import sys
from importlib.metadata import version

import onnx
import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.rho = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)

    def forward(self, images):
        features = images.mean((2, 3))
        return self.mu(features), self.rho(features)


def judged(names):
    program = torch.onnx.export(
        Encoder().eval(), (torch.rand(2, 3, 8, 8),), output_names=names, verbose=False
    )
    try:
        onnx.checker.check_model(program.model_proto)
    except onnx.checker.ValidationError as error:
        return str(error).splitlines()[0]
    return "valid"


for names in (["mean", "log_variance"], ["mu", "log_variance"]):
    said = judged(names)
    print(f"outputs named {names[0]}, {names[1]}: {said}")
    assert ("multiple times" in said) == (names[0] == "mean"), said
EOF
"$PYTHON" -W ignore "$folder/names.py" "${packages[@]}"
