"""Where measured numbers are kept: one JSON file a table, with all that says how it was measured.

`save` writes one at the end of a benchmark; `tables.py` puts them into the pages of docs/.
"""

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

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
) -> Path:
    """Write `results/<name>.json` and return its path.

    `columns` maps the head of each column to a format of a row's fields, as in
    `"{accuracy:.1%} ({low:.1%} to {high:.1%})"`. Command, commit, script and machine are added.
    """
    found = {
        "what": what,
        "data": data,
        "n": n,
        "interval": interval,
        "seed": seed,
        "command": shlex.join(["python", *_relative(sys.argv)]),
        "commit": commit(),
        "machine": machine(),
        "source": {"file": Path(sys.argv[0]).name, "sha256": _digest(Path(sys.argv[0]))},
        "note": note,
        "columns": dict(columns),
        "rows": [dict(row) for row in rows],
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    """The file of that name; raises ValueError where it does not say how it was measured."""
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    lacking = [key for key in (*REQUIRED, "columns", "rows") if key not in found]
    if lacking:
        raise ValueError(f"{path}: says nothing of {', '.join(lacking)}")
    return found


def commit() -> str:
    """The commit at hand, with "+ changes" where files differ from it; "unknown" outside of git."""
    here = Path(__file__).parent
    head = _git(here, "rev-parse", "--short", "HEAD")
    if head is None:
        return "unknown"
    # A result file that is about to be replaced is no change of what was measured.
    changed = _git(here.parent, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return f"{head} + changes" if changed else head


def machine() -> str:
    """Processor or GPU, threads and the version of torch, in words."""
    cpu = torch.cpu.get_capabilities().get("cpu_name", "CPU")
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _relative(arguments: Sequence[str]) -> list[str]:
    """Without the folder in which the checkout lies, which says nothing of the measurement."""
    root = f"{Path(__file__).parent.parent}/"
    return [argument.replace(root, "") for argument in arguments]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
