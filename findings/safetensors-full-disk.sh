#!/usr/bin/env bash
# What: where a file cannot be written whole, as on a full disk or beyond a limit of file sizes,
#   save_file of safetensors raises SafetensorError, which is no OSError: it has no errno, and the
#   system's error stands in its text alone. numpy.save of the same array raises OSError. The old
#   file is as it was.
# Versions: safetensors 0.8.0, numpy 2.4.6.
# Seen on 2026-11-29: "Error while serializing: I/O error: File too large (os error 27)".
# For a user: `except OSError` around the saving of a checkpoint does not see a full disk. Catch
#   SafetensorError, too, and read the number out of "(os error N)".
set -euo pipefail
packages=(numpy==2.4.6 safetensors==0.8.0)
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

import errno
import os
import resource
import tempfile

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "a.safetensors")
    save_file({"z": np.ones(1)}, path)
    # In place of a full disk, which a script cannot have: files end at 1,000 bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        save_file({"z": np.zeros(1000)}, path)
    except Exception as error:
        print(f"safetensors: {type(error).__name__}: {error}")
        assert type(error) is SafetensorError and not isinstance(error, OSError)
        assert not hasattr(error, "errno") and "(os error 27)" in str(error)
    else:
        raise AssertionError("it was written")
    try:
        np.save(os.path.join(folder, "a.npy"), np.zeros(1000))
    except OSError as error:
        print(f"numpy: {type(error).__name__}: {error}")
    else:
        raise AssertionError("it was written")
    assert load_file(path)["z"].tolist() == [1]
EOF
