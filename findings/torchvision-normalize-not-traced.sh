#!/usr/bin/env bash
# What: a model that begins with torchvision.transforms.Normalize can be neither exported nor compiled
#   whole. Normalize asks in each call whether a deviation is 0, which is a branch on the values of a
#   tensor; torchvision.transforms.v2.Normalize asks that on the host, and can be both.
# Versions: torch 2.14.1, torchvision 0.29.1.
# Seen on 2026-11-29: torch.export.export raises GuardOnDataDependentSymNode, strictly Unsupported
#   ("Data-dependent branching"), and torch.compile with fullgraph=True Unsupported; with v2 all three
#   work, and the outputs are equal.
# For a user: the module that puts normalisation into a model should be that of v2.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 torchvision==0.29.1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    PYTHON="$folder/venv/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
cat >"$folder/traced.py" <<'EOF'
import sys
from importlib.metadata import version

import torch
from torchvision.transforms import Normalize, v2

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"

IMAGES = torch.rand(2, 3, 8, 8)
WAYS = {
    "export": lambda model: torch.export.export(model, (IMAGES,)),
    "strict export": lambda model: torch.export.export(model, (IMAGES,), strict=True),
    "compile": lambda model: torch.compile(model, fullgraph=True, backend="eager")(IMAGES),
}


def tried(way, model):
    try:
        way(model)
    except Exception as error:
        return type(error).__name__
    return "works"


convolution = torch.nn.Conv2d(3, 4, 3)
models = [
    torch.nn.Sequential(make((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)), convolution).eval()
    for make in (Normalize, v2.Normalize)
]
assert torch.equal(models[0](IMAGES), models[1](IMAGES))
found = {name: [tried(way, model) for model in models] for name, way in WAYS.items()}
for name, (old, new) in found.items():
    print(f"{name}: transforms.Normalize {old}, transforms.v2.Normalize {new}")
assert found == {
    "export": ["GuardOnDataDependentSymNode", "works"],
    "strict export": ["Unsupported", "works"],
    "compile": ["Unsupported", "works"],
}
EOF
"$PYTHON" -W ignore "$folder/traced.py" "${packages[@]}" 2>/dev/null
