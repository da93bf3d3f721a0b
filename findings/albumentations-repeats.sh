#!/usr/bin/env bash
# What: the workers of a DataLoader each get a copy of albumentations' own generator, all in one state:
#   they draw the same augmentations, and as the copies are made anew for every epoch, so does every
#   epoch. This is so by default, without a seed; torch.manual_seed does not reach that generator.
# Versions: albumentations 2.0.8, torch 2.14.1, numpy 2.4.6.
# Seen on 2026-11-30: 8 equal images, two workers: images 1 and 2, 3 and 4 and so on come out alike, and
#   all three epochs are the same; with persistent_workers=True epochs differ, workers do not.
# For a user: a network sees each image in one version only. Give each worker a seed of its own, by
#   worker_init_fn, as the last lines do.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(numpy==2.4.6 torch==2.14.1 albumentations==2.0.8)
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

import albumentations
import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
class Images(Dataset):
    def __init__(self):
        self.transform = albumentations.Compose([albumentations.RandomBrightnessContrast(p=1)])

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = np.full((4, 4, 3), 128, np.uint8)
        return int(self.transform(image=image)["image"][0, 0, 0])


def own_seed(_):
    info = get_worker_info()
    info.dataset.transform.set_random_seed(info.seed % 2**32)


def epochs(**options):
    loader = DataLoader(Images(), batch_size=1, num_workers=2, **options)
    found = [[batch.item() for batch in loader] for _ in range(3)]
    for number, values in enumerate(found, 1):
        print(f"  epoch {number}:", *values)
    return found


print("default")
found = epochs()
assert found[0] == found[1] == found[2] and found[0][::2] == found[0][1::2]
print("persistent_workers=True")
found = epochs(persistent_workers=True)
assert found[0] != found[1] and all(values[::2] == values[1::2] for values in found)
print("a seed for each worker")
found = epochs(worker_init_fn=own_seed)
assert found[0] != found[1] and found[0][::2] != found[0][1::2]
EOF
