#!/usr/bin/env bash
# What: an exported model names the source files of the machine that exported it. torch.export.save
#   and torch.onnx.export write a stack trace for each operation, with the paths as they stand on
#   that machine: the folders of the user and of the project.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2.
# Seen on 2026-11-28: of a network of three operations the .pt2 file holds the path of the script,
#   and so does the .onnx file. Without `stack_trace` in the nodes' meta, and without the nodes'
#   metadata_props, neither does, and both answer the same.
# For a user: look into a model for paths before you publish it. `paradise export` leaves them out.
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
mkdir "$folder/secret-project"
cat >"$folder/secret-project/network.py" <<'EOF'
import io
import sys
import zipfile
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"


class Network(torch.nn.Module):
    def forward(self, x):
        return (x.relu() + 1).log()


def archive(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    with zipfile.ZipFile(file) as opened:
        return b"".join(opened.read(name) for name in opened.namelist())


x = torch.rand(2, 3)
program = torch.export.export(Network(), (x,))
converted = torch.onnx.export(Network(), (x,), verbose=False)
found = archive(program), converted.model_proto.SerializeToString()
for node in program.graph.nodes:
    node.meta.pop("stack_trace", None)
for node in converted.model.graph:
    node.metadata_props.clear()
stripped = archive(program), converted.model_proto.SerializeToString()
assert torch.equal(program.module()(x), Network()(x))
for name, before, after in zip((".pt2", ".onnx"), found, stripped, strict=True):
    counts = [content.count(b"secret-project") for content in (before, after)]
    print(f"{name}: the folder is named {counts[0]} times, and {counts[1]} once it is stripped")
    assert counts[0] >= 3 and counts[1] == 0
EOF
"$PYTHON" -W ignore "$folder/secret-project/network.py" "${packages[@]}"
