"""Paired timing: two things in turn, in one run, and the median of their ratios."""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from results import save

from paradise_cli.core.processes import keep_freed_memory

Clock = Callable[[], float]

CLAIMS: list[dict[str, object]] = []
"""What `report` has compared so far, for `finish`."""


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call, the device's work included."""
    started = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


def pairs(
    a: Callable[[], object], b: Callable[[], object], n: int, clock: Clock = time.perf_counter
) -> list[tuple[float, float]]:
    """Seconds of `a` and `b` on that clock, n times in turn after one uncounted call of each.

    Which of the two comes first alternates, so that a machine that slows down favours neither.
    """
    a()
    b()
    found = []
    for number in range(n):
        if number % 2:
            second = seconds(b, clock)
            first = seconds(a, clock)
        else:
            first = seconds(a, clock)
            second = seconds(b, clock)
        found.append((first, second))
    return found


def ratio(timed: list[tuple[float, float]]) -> float:
    """Median over the pairs of first / second."""
    return statistics.median(a / b for a, b in timed)


def median(timed: list[tuple[float, float]], which: int) -> float:
    """Median seconds of the first (0) or the second (1) of each pair."""
    return statistics.median(pair[which] for pair in timed)


def report(claim: str, measured: float, bound: float | None, *, at_least: bool) -> None:
    """One line: what was claimed, what was measured, and whether it holds, if anything was."""
    if bound is None:
        print(f"        {claim}: {measured:.4g}", flush=True)
        CLAIMS.append({"claim": claim, "measured": measured, "asked": "-", "found": ""})
        return
    holds = measured >= bound if at_least else measured <= bound
    asked = f"{'>=' if at_least else '<='} {bound:g}"
    found = "holds" if holds else "MISSED"
    print(f"{found:6}  {claim}: {measured:.4g} (claim: {asked})", flush=True)
    CLAIMS.append({"claim": claim, "measured": measured, "asked": asked, "found": found})


def finish(chosen: argparse.Namespace, *, what: str, data: str, seed: int | None = 0) -> None:
    """With --save, keep all that was reported in `results/<script>.json`."""
    if not chosen.save:
        return
    columns = {
        "what": "{claim}",
        "measured": "{measured:.4g}",
        "asked for": "{asked}",
        "": "{found}",
    }
    path = save(
        Path(sys.argv[0]).stem, what=what, columns=columns, rows=CLAIMS, data=data, seed=seed
    )
    print(f"saved: {path}; show it in docs/results.md by <!-- table: {path.stem} -->")


def resident_bytes() -> int:
    """Resident size of this process now; `peak_bytes` counts anew from here on (on Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_bytes() -> int:
    """Largest resident size of this process since it began, or since `resident_bytes`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def fresh(script: str, *arguments: str) -> str:
    """What this script prints in a new process, so that its memory is its own."""
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def machine() -> None:
    """What every benchmark starts with: memory kept as by `paradise`, a line on the machine."""
    keep_freed_memory()
    cpu = torch.cpu.get_capabilities()
    load = os.getloadavg()[0]
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    print(
        f"torch {torch.__version__}, {gpu}{cpu.get('cpu_name')}, {torch.get_num_threads()} threads,"
        f" amx_bf16 {bool(cpu.get('amx_bf16'))}, avx512_bf16 {bool(cpu.get('avx512_bf16'))}, load"
        f" {load:.1f}",
        flush=True,
    )


def options(description: str | None, **defaults: int | str | Path | None) -> argparse.Namespace:
    """Command-line options with these defaults, and --save."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in defaults.items():
        kind = Path if default is None else type(default)
        parser.add_argument(f"--{name}", default=default, type=kind)
    parser.add_argument("--save", action="store_true", help="keep the numbers in results/")
    return parser.parse_args()
