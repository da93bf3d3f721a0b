"""What `paradise attack` leaves in its folder: the report, and the adversarial images."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradise_cli.attacks import AttackReport
from paradise_cli.core.storage import save_tensors, write_json

REPORT_FILES = ("report.json", "adversarial.safetensors")
CARD_FILES = ("card.*", "card-*.png")
"""Patterns; see `robustness.card`."""


def save_report(
    report: AttackReport, images: Tensor, labels: Tensor, folder: Path, document: dict[str, Any]
) -> None:
    """Write report.json, and adversarial.safetensors with float32 points and their 8-bit versions.

    Beside `adversarial` and `lattice` (uint8), [n, C, H, W], it holds `images`, `labels`, `rows`
    and `standing`.
    """
    # As uint8 the 8-bit images are what a file would hold, without another rounding.
    write_json(folder / "report.json", document)
    tensors = {
        "adversarial": report.adversarial,
        "lattice": (report.lattice * 255).round().to(torch.uint8),
        "images": images[report.rows],
        "labels": labels[report.rows],
        "rows": report.rows,
        "standing": report.standing,
    }
    # What was attacked, beside what became of it: the file says all without the data set.
    kept = ("robust_accuracy", "lattice_accuracy", "n", "verdict", "settings")
    save_tensors(
        folder / "adversarial.safetensors", tensors, {name: document[name] for name in kept}
    )
