"""Where measured numbers are kept: one JSON file a table, with all that says how it was measured.

`save` writes one at the end of a benchmark; `tables.py` puts them into the pages of docs/.
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from paradise_cli.core.machine import commit
from paradise_cli.core.storage import file_digest, publish_text

FOLDER = Path(__file__).parent / "results"
REQUIRED = ("what", "data", "n", "interval", "seed", "command", "commit", "machine")
"""What every file says beside its `columns` and `rows`."""

Row = Mapping[str, Any]


def save(
    name: str,
    *,
    what: str,
    columns: Mapping[str, str],
    rows: Sequence[Row],
    data: str,
    n: int | str | None = None,
    interval: str | None = None,
    seed: int | str | None = None,
    note: str = "",
    command: str | None = None,
) -> Path:
    """Write `results/<name>.json` and return its path.

    `columns` maps the head of each column to a format of a row's fields, as in
    `"{accuracy:.1%} ({low:.1%} to {high:.1%})"`. Commit, script and machine are added, and the
    command that runs, where no shorter one makes the same.
    """
    found = {
        "what": what,
        "data": data,
        "n": n,
        "interval": interval,
        "seed": seed,
        "command": command or shlex.join(["python", *_short(sys.argv)]),
        "commit": commit() or "unknown",
        "machine": machine(),
        "source": {"file": Path(sys.argv[0]).name, "sha256": file_digest(Path(sys.argv[0]))[:16]},
        "note": note,
        "columns": dict(columns),
        "rows": [dict(row) for row in rows],
    }
    path = FOLDER / f"{name}.json"
    # Whole or not at all: what is killed meanwhile must not leave half a row of a long night.
    with publish_text(path) as file:
        file.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return path


def read(name: str) -> dict[str, Any]:
    """The file of that name; raises ValueError where it does not say how it was measured."""
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    lacking = [key for key in (*REQUIRED, "columns", "rows") if key not in found]
    if lacking:
        raise ValueError(f"{path}: says nothing of {', '.join(lacking)}")
    return found


def machine() -> str:
    """Processor or GPU, threads and the version of torch, in words."""
    cpu = torch.cpu.get_capabilities().get("cpu_name", "CPU")
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _short(arguments: Sequence[str]) -> list[str]:
    """Without folders of this machine, which say nothing of the measurement."""
    script = f"benchmarks/{Path(arguments[0]).name}"
    return [script, *(Path(a).name if a.startswith("/") else a for a in arguments[1:])]
