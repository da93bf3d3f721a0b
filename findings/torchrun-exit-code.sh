#!/usr/bin/env bash
# What: torchrun ends with 1 whatever code its processes end with. A training that was stopped, has
#   saved its state and ends with 75 (EX_TEMPFAIL), so that a scheduler queues it again, looks like
#   one that failed.
# Versions: torch 2.14.1.
# Seen on 2026-11-30: processes end with 75, torchrun with 1, and the 75 stands in its error text
#   alone; processes that end with 0 give 0.
# For a user: start the processes by the scheduler itself (RANK, WORLD_SIZE, MASTER_ADDR and
#   MASTER_PORT are all that is needed), or ask whether the result is there (docs/schedulers.md).
# torch takes gigabytes: name a Python that has these packages in PYTHON to spare the installation.
set -euo pipefail
packages=(torch==2.14.1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    PYTHON="$folder/venv/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
fi
"$PYTHON" -c "
import sys
from importlib.metadata import version
name, wanted = sys.argv[1].split('==')
assert version(name).split('+')[0] == wanted, f'{name} is {version(name)}'
" "${packages[@]}"
printf 'import sys\nsys.exit(int(sys.argv[1]))\n' >"$folder/ends.py"
for code in 0 75; do
    got=0
    "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node 2 \
        "$folder/ends.py" "$code" 2>"$folder/said" || got=$?
    echo "processes end with $code: torchrun ends with $got"
    expected=$((code == 0 ? 0 : 1))
    [ "$got" -eq "$expected" ]
done
grep -q "exitcode  *: 75" "$folder/said"
echo "its error text names the 75"
