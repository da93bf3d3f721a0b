"""How a training is shown: imported by its command alone, since it loads torch."""

import time
from typing import Any

from paradise_cli.cli.output import note
from paradise_cli.cli.progress import ProgressLine, duration
from paradise_cli.training.loop import Reporter


class TrainingProgress(Reporter):
    """The reporter of a training: its steps, a line after each epoch, alarms once."""

    def __init__(self) -> None:
        self._line = ProgressLine("training", None)
        self._evaluating = False
        self._alarmed = set[str]()
        self._last_epoch = 0.0

    def progress(self, step: int, total: int, terms: dict[str, float]) -> None:
        self._line.update(step, _terms(terms), total)

    def epoch(self, record: dict[str, Any]) -> None:
        for alarm in record.get("alarms", []):
            # Once a kind: one that comes and goes would fill the screen; result.json has each.
            if alarm["kind"] not in self._alarmed:
                self._alarmed.add(alarm["kind"])
                note(f"warning: epoch {alarm['epoch']}: {alarm['text']}")
        now = time.monotonic()
        # Epochs of milliseconds would fill the screen; metrics.jsonl has all of them.
        if now - self._last_epoch >= 1:
            self._last_epoch = now
            parts = [_terms(record["train"])]
            for name, value in record.get("validation", {}).items():
                parts.append(f"validation {name} {value:.4g}")
            for name, value in record.get("probe", {}).items():
                parts.append(f"probe {name} {value:.4g}")
            shown = ", ".join(filter(None, parts))
            note(f"epoch {record['epoch']} ({duration(record['seconds'])}): {shown}")

    def evaluation(self, done: int, total: int) -> None:
        # A line of its own: its total and its speed are not those of the training.
        if not self._evaluating:
            self._evaluating = True
            self._line.close()
            self._line = ProgressLine("evaluating", total)
        self._line.update(done)

    def say(self, text: str) -> None:
        note(text)

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._line.close()


def _terms(terms: dict[str, float]) -> str:
    shown = {"loss": "loss", "distortion": "distortion", "rate": "rate (nats)"}
    return ", ".join(f"{label} {terms[name]:.4g}" for name, label in shown.items() if name in terms)
