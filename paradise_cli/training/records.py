"""What a run folder says of its epochs and its machine, checked: anyone may have edited it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from paradise_cli.core.checked import Count, Strict, first_fault
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import read_object

# What `alarms` reads together: where there is the first, there are the others.
_TOGETHER = {
    "shift/random": ("shift/adversarial", "shift/unrelated"),
    "accuracy/multi_step": ("accuracy/one_step",),
}


class _Extension(Strict):
    step: Count
    epochs_before: Count
    epochs: Count


class _Alarm(Strict):
    kind: str
    epoch: Count
    text: str


class _Record(Strict):
    """What later epochs, alarms and pictures read of an epoch; anything else may be there, too."""

    model_config = ConfigDict(extra="ignore")

    epoch: Count
    step: Count
    lr: float
    train: dict[str, float]
    seconds: float
    validation: dict[str, float] = Field(default_factory=dict)
    probe: dict[str, float] = Field(default_factory=dict)
    alarms: list[_Alarm] = Field(default_factory=list)
    rate_cap: float | None = None
    rate_inert: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> "_Record":
        if self.rate_cap is not None and (self.rate_inert is None or "rate" not in self.train):
            raise ValueError("a rate_cap without rate_inert or train.rate")
        if self.probe and "informative_latents" not in self.probe:
            raise ValueError("a probe without informative_latents")
        for name, others in _TOGETHER.items():
            if name in self.probe and not all(other in self.probe for other in others):
                raise ValueError(f"a probe with {name} and without {' and '.join(others)}")
        return self


_EXTENSIONS = TypeAdapter(list[_Extension])


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`, one an epoch; none where there is no such file.

    A last line without an end is left out where a killed process cut it off. Raises ParadiseError,
    naming the line, for one that is no record.
    """
    if not path.exists():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(line))
        except ValueError as error:
            raise ParadiseError(
                f"{path} is damaged in line {number} ({error}): take the line out, or start over"
                " beside this run with --fresh"
            ) from error
    # An editor may have dropped the end of a line that is whole.
    try:
        records.append(_record(last))
    except ValueError:
        pass
    return records


def read_environment(path: Path) -> dict[str, Any]:
    """What `environment.json` says; empty where it is missing or damaged."""
    return read_object(path) or {}


def read_extensions(environment: Mapping[str, Any]) -> list[dict[str, int]]:
    """Each time the training went on longer than planned, as far as an environment knows."""
    try:
        found = _EXTENSIONS.validate_python(environment.get("extended", []))
    except ValidationError:
        return []
    return [each.model_dump() for each in found]


def _record(line: bytes) -> dict[str, Any]:
    """The record that a line holds; raises ValueError, saying why, where it holds none."""
    try:
        found = json.loads(line)
        _Record.model_validate(found)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    # What pydantic accepts for a record is an object.
    record: dict[str, Any] = found
    return record
