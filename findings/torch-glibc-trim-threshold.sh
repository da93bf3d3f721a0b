#!/usr/bin/env bash
# What: glibc gives the memory of each training step on a CPU back to the system, and the next step
#   takes it again by thousands of page faults. The variable that should stop this,
#   MALLOC_TRIM_THRESHOLD_, makes it about three times worse when set alone: setting it ends the
#   automatic adjustment of the other threshold (mallopt(3)), which then stays at 128 KiB, so that
#   every activation is mapped and unmapped by itself. With MALLOC_MMAP_THRESHOLD_ too there are
#   none.
# Versions: torch 2.14.1, glibc 2.36.
# Seen on 2026-11-28: a step of two convolutions on 128 images of 32x32: 10,998 to 15,708
#   faults and about 0.12 s of processor time by default, 40,980 and 0.22 to 0.26 s with the first
#   alone, at most 204 and 0.08 s with both.
# For a user: set both or neither; `paradise` sets both for itself.
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1)
if [ -z "${PYTHON:-}" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    PYTHON="$folder/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
faults() { # of a step, with these variables
    env "$@" "$PYTHON" -W ignore - "${packages[@]}" <<'EOF'
import resource
import sys
from importlib.metadata import version

import torch

for name, wanted in (pin.split("==") for pin in sys.argv[1:]):
    assert version(name).split("+")[0] == wanted, f"{name} is {version(name)}"
torch.set_num_threads(1)
first, second = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 16, 3, padding=1)
net = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU())
images = torch.randn(128, 3, 32, 32)


def steps(count):
    for _ in range(count):
        net.zero_grad()
        net(images).square().mean().backward()


steps(5)
before = resource.getrusage(resource.RUSAGE_SELF)
steps(10)
after = resource.getrusage(resource.RUSAGE_SELF)
spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(f"{spent / 10:.3f} s of processor time a step", file=sys.stderr)
print((after.ru_minflt - before.ru_minflt) // 10)
EOF
}
unset GLIBC_TUNABLES MALLOC_TRIM_THRESHOLD_ MALLOC_MMAP_THRESHOLD_ MALLOC_MMAP_MAX_
getconf GNU_LIBC_VERSION
default=$(faults A_=)
alone=$(faults MALLOC_TRIM_THRESHOLD_=8000000000)
both=$(faults MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_MMAP_THRESHOLD_=33554432)
echo "page faults a step: $default by default, $alone with one variable, $both with both"
[ "$default" -gt 1000 ] && [ "$alone" -gt $((2 * default)) ] && [ $((10 * both)) -lt "$default" ]
