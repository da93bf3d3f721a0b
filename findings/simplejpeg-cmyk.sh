#!/usr/bin/env bash
# What: of a CMYK JPEG simplejpeg's RGB is up to two levels brighter than (255 - C)(255 - K) / 255
#   rounded, which is what Pillow gives; of RGB and grey JPEGs the two agree.
# Versions: simplejpeg 1.9.0, Pillow 13.0.0, numpy 2.4.6.
# Seen on 2026-11-27: of random pixels 70.6% of values differ, by 1 or 2; without black (K = 0)
#   99.1%, by 1; of an RGB JPEG none.
# For a user: read CMYK files by Pillow, or expect other pixels where the decoder changes.
set -euo pipefail
packages=(numpy==2.4.6 pillow==13.0.0 simplejpeg==1.9.0)
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

import io

import numpy as np
import simplejpeg
from PIL import Image

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)


def differences(image):
    """simplejpeg's RGB minus Pillow's."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    pillows = np.asarray(Image.open(file).convert("RGB")).astype(int)
    return simplejpeg.decode_jpeg(file.getvalue(), "RGB") - pillows


rgb = Image.fromarray(pixels[..., :3])
cases = {
    "CMYK": differences(Image.fromarray(pixels, "CMYK")),
    "CMYK without black": differences(rgb.convert("CMYK")),
    "RGB": differences(rgb),
}
for name, found in cases.items():
    print(f"{name}: {(found != 0).mean():.1%} differ, by {found.min()} to {found.max()}")
assert (cases["CMYK"] > 0).mean() > 0.6 and cases["CMYK"].max() == 2
assert (cases["CMYK without black"] > 0).mean() > 0.9 and not cases["RGB"].any()
EOF
