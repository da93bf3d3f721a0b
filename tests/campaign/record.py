"""What a campaign has found, a line each on disk, so that one that was stopped goes on."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = ("ended well", "one message")
VERDICTS = (*GOOD, "traceback", "hang", "wrong", "memory", "outside", "silent")


class Record:
    """Cases by what they are, with their verdicts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        self.found: dict[str, dict[str, Any]] = {json.dumps(e["case"]): e for e in entries}

    def keep(self, case: list[Any], look: Callable[[], dict[str, Any]]) -> None:
        """Look at a case that is not on record yet."""
        if json.dumps(case) in self.found:
            return
        entry = {"case": case, **look()}
        self.found[json.dumps(case)] = entry
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if entry["verdict"] not in GOOD:
            print(f"{case}: {entry['verdict']}: {entry['why']}", flush=True)

    def faults(self) -> int:
        """How many cases went wrong."""
        return sum(entry["verdict"] not in GOOD for entry in self.found.values())

    def show(self) -> None:
        """A table with a row for each kind."""
        counts = Counter((e["case"][0], e["verdict"]) for e in self.found.values())
        names = list(dict.fromkeys(name for name, _ in counts))
        used = [each for each in VERDICTS if any(counts[name, each] for name in names)]
        print(f"{'kind':24}" + "".join(f"{each:>13}" for each in used))
        for name in names:
            print(f"{name:24}" + "".join(f"{counts[name, each]:>13,}" for each in used))
        most = max((entry.get("memory", 0) for entry in self.found.values()), default=0)
        cases, memory = f"{len(self.found):,} cases", f"{most / 2**20:,.0f} MiB"
        print(f"{cases}, {self.faults()} faults; peak memory {memory}")
