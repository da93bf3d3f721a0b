#!/usr/bin/env bash
# What: webdataset takes for one example what stands side by side in a tar file and has one name up to
#   its first dot. Photos named by their dates become one example with those of the same year beside
#   them, in which no field is called jpg; images that were packed before their classes are examples
#   without a class.
# Versions: webdataset 1.0.2.
# Seen on 2026-11-30: three photos, two of them 2024.05.01.jpg and 2024.05.02.jpg, are two examples;
#   two photos followed by their two .cls files are four. Read field by field nothing is said;
#   to_tuple("jpg") raises ValueError, as a field is asked for that is not there.
# For a user: a folder of photos packed by tar, in the order in which tar finds them, gives fewer
#   images than it holds, or images without labels.
set -euo pipefail
packages=(webdataset==1.0.2)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import io
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import webdataset

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name) == wanted, f"{name} is {version(name)}"


def examples(names):
    """The names of the fields of each example of a tar file of these files, and whether to_tuple
    raises for want of a jpg."""
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "0.tar"
        with tarfile.open(shard, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(b"0"))
        found = webdataset.WebDataset(str(shard), shardshuffle=False)
        fields = [[field for field in each if not field.startswith("__")] for each in found]
        try:
            list(webdataset.WebDataset(str(shard), shardshuffle=False).to_tuple("jpg"))
        except ValueError:
            return fields, True
        return fields, False


dated, raises = examples(["cat/2024.05.01.jpg", "cat/2024.05.02.jpg", "dog/rex.jpg"])
print(f"three photos: {len(dated)} examples, {dated}")
assert dated == [["05.01.jpg", "05.02.jpg"], ["jpg"]] and raises
apart, raises = examples(["a.jpg", "b.jpg", "a.cls", "b.cls"])
print(f"two photos, then their classes: {len(apart)} examples, {apart}")
assert apart == [["jpg"], ["jpg"], ["cls"], ["cls"]] and raises
beside, raises = examples(["a.jpg", "a.cls", "b.jpg", "b.cls"])
print(f"each beside its class: {len(beside)} examples, {beside}")
assert beside == [["jpg", "cls"], ["jpg", "cls"]] and not raises
EOF
