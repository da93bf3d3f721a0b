#!/usr/bin/env bash
# What: save_file of safetensors gives every file mode 0600, whatever the umask and whatever the
#   mode of the file that it replaces, and puts a regular file in the place of a symbolic link.
# Versions: safetensors 0.8.0, numpy 2.4.6.
# Seen on 2026-11-27: a file of mode 0644 has 0600 after it was saved again; a link is a link no
#   more, and what it pointed to keeps the old content.
# For a user: weights in a shared folder cannot be read by others; chmod after saving, and save to
#   os.path.realpath(path).
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

import os
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
os.umask(0o022)
with tempfile.TemporaryDirectory() as folder:
    path, link = (os.path.join(folder, name) for name in ("a.safetensors", "link.safetensors"))
    save_file({"z": np.zeros(1)}, path)
    os.chmod(path, 0o644)
    save_file({"z": np.zeros(1)}, path)
    mode = os.stat(path).st_mode & 0o777
    os.symlink(path, link)
    save_file({"z": np.ones(1)}, link)
    print(f"mode 644 before, {mode:o} after; still a link: {os.path.islink(link)}")
    assert mode == 0o600 and not os.path.islink(link)
    assert load_file(path)["z"][0] == 0
EOF
