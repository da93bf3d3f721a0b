"""What every command of a campaign finds: places of its own, and modules in memory."""

import os
from importlib import import_module
from pathlib import Path

import torch

SLOW = (
    "torch._dynamo", "scipy.stats", "sklearn.datasets", "matplotlib.figure",
    "paradise_cli.attacks.run", "paradise_cli.cli", "paradise_cli.library",
    "paradise_cli.runs.pictures",
)  # fmt: skip
"""What the commands import: each in every fork would take most of its time."""


def settle(out: Path) -> None:
    """One place for all that the product keeps, and `SLOW` in memory before any fork."""
    for name in ("HOME", "PARADISE_CACHE", "PARADISE_DATA"):
        place = out / name.lower()
        place.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(place)
    os.environ["COLUMNS"] = "100"
    for name in SLOW:
        import_module(name)
    # A thread of torch would not be there in a fork, which would wait for it.
    torch.set_num_threads(1)
