#!/usr/bin/env bash
# What: unless the file names a seed, the random operations of ONNX Runtime take theirs from one number
#   for the process and from their place in the graph. Each session of a process draws the same numbers in
#   the same order, and so do two models whose random operation stands in the same place.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Seen on 2026-11-30: a stochastic encoder z = mean + noise in eight sessions, one draw each: all are
#   equal, and their average is as noisy as one (deviation 1.01; 0.35 of eight draws of one session).
#   An encoder of twice that noise draws the same noise.
# For a user: draws of several sessions, as of a pool or an ensemble, are one draw. Draw from one session,
#   or make the noise an input of the model.
set -euo pipefail
packages=(numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0)
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

import numpy as np
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
def encoder(scale):
    noise = helper.make_node("RandomNormalLike", ["mean"], ["noise"], scale=scale)
    add = helper.make_node("Add", ["mean", "noise"], ["z"])
    mean, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [10000]) for name in ("mean", "z"))
    graph = helper.make_graph([noise, add], "encoder", [mean], [z])
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def draw(session):
    return session.run(None, {"mean": np.zeros(10000, np.float32)})[0]


several = [draw(InferenceSession(encoder(1.0))) for _ in range(8)]
session = InferenceSession(encoder(1.0))
one = [draw(session) for _ in range(8)]
alike = all(np.array_equal(each, several[0]) for each in several)
print("eight sessions draw alike:", alike)
deviations = np.mean(several, 0).std(), np.mean(one, 0).std()
print("deviation of the mean of eight draws: {:.2f} of eight sessions, {:.2f} of one".format(*deviations))
other = draw(InferenceSession(encoder(2.0)))
correlation = np.corrcoef(other, several[0])[0, 1]
print(f"correlation with the noise of another model: {correlation:.3f}")
assert alike and correlation > 0.999 and deviations[0] > 0.95 and deviations[1] < 0.4
EOF
