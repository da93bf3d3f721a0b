#!/usr/bin/env bash
# What: torch.onnx.export computes once, at the time of the export, what depends on constants alone.
#   Normal and uniform draws are exempt; Bernoulli draws and dropout are not: of fixed probabilities, or
#   of weights, they become one mask for good, without a word.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0.
# Seen on 2026-12-01: ten runs of the file: bernoulli of a buffer and dropout of the weights (DropConnect)
#   give one result, two exports two; randn_like gives ten. Probabilities that come out of the network
#   stay random, and so does everything with optimize=False.
# For a user: a stochastic network, or one for Monte-Carlo dropout, is exported as one of its draws. Give
#   the noise as an input of the model, or export with optimize=False.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import contextlib
import io
import logging
import sys
from importlib.metadata import version

import onnxruntime
import torch
from torch import nn

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
logging.disable(logging.WARNING)
onnxruntime.set_default_logger_severity(3)


class Stochastic(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.weights = nn.Parameter(torch.ones(16))
        self.register_buffer("probabilities", torch.full((16,), 0.5))

    def forward(self, x):
        return x * self.draw(self, x)


def results(draw, optimize=True):
    """The different results of ten runs in PyTorch, and of the exported file."""
    network, x = Stochastic(draw).eval(), torch.arange(1.0, 17.0) / 20
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(network, (x,), dynamo=True, verbose=False, optimize=optimize)
    file = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(file)
    feed = {session.get_inputs()[0].name: x.numpy()}
    with torch.no_grad():
        return {network(x).numpy().tobytes() for _ in range(10)}, {
            session.run(None, feed)[0].tobytes() for _ in range(10)
        }


draws = {
    "randn_like of weights": (lambda self, x: torch.randn_like(self.weights), False),
    "bernoulli of a buffer": (lambda self, x: torch.bernoulli(self.probabilities), True),
    "dropout of weights": (lambda self, x: nn.functional.dropout(self.weights, 0.5, True), True),
    "bernoulli of the input": (lambda self, x: torch.bernoulli(x), False),
    "dropout of the input": (lambda self, x: nn.functional.dropout(x, 0.5, True), False),
}
torch.manual_seed(0)
for name, (draw, frozen) in draws.items():
    in_torch, in_file = results(draw)
    print(f"{name}: {len(in_torch)} results in ten runs of PyTorch, {len(in_file)} of the file")
    assert len(in_torch) == 10 and len(in_file) == (1 if frozen else 10)
    if frozen:
        assert in_file != results(draw)[1], "two exports are alike"
        assert len(results(draw, optimize=False)[1]) == 10
EOF
