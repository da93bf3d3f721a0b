"""A run folder: complete at every instant, owned by one training at a time."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paradise_cli.core import locks, yaml
from paradise_cli.core.errors import ParadiseError, UsageError, printable
from paradise_cli.core.results import refuse_foreign
from paradise_cli.core.storage import publish_text, require_regular, write_json
from paradise_cli.core.temporary import sweep_out
from paradise_cli.training.records import read_environment, read_extensions, read_records

PLAIN, AVERAGED = "plain", "averaged"
"""Kinds of weights: as the optimiser left them, and their average over the last steps."""
ABSENT = "(absent)"
EPOCHS = "train.epochs"
FREE = ("data.root", "train.checkpoint_minutes", "train.log")
"""What may change when a training goes on: it decides no number. Data are compared, wherever they
lie, by what they hold.
"""


class RunFolder:
    """Where one training keeps its recipe, environment, metrics, checkpoints and result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.model = path / "model.safetensors"
        # Last or best, plain or averaged: four numbers that are easily mixed up.
        self.weights: dict[tuple[str, str], Path] = {
            ("last", PLAIN): self.model,
            ("last", AVERAGED): path / "averaged.safetensors",
            ("best", PLAIN): self.best,
            ("best", AVERAGED): self.checkpoints / "best_averaged.safetensors",
        }
        self.result = path / "result.json"
        self.posteriors = path / "posterior.png"
        self.curves = path / "curves.png"
        self.confusion = path / "confusion.png"
        self.tensorboard = path / "tensorboard"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, as `locks.locked`; raises Busy where another training holds it.

        Raises ParadiseError where the folder cannot be written.
        """
        with locks.locked(self.path, "run", "training"):
            try:
                self.checkpoints.mkdir(exist_ok=True)
            except OSError as error:
                raise ParadiseError(
                    f"cannot write the run folder {self.path}: {error.strerror}; choose another"
                    " with --out"
                ) from error
            try:
                self._refuse_others()
                yield
            except BaseException:
                # Of a training that was refused there is nothing to go on from.
                with suppress(OSError):
                    self.checkpoints.rmdir()  # if it is empty
                raise

    def _refuse_others(self) -> None:
        """What would be in the way of a result is found out before the work for it."""
        sweep_out(self.checkpoints)
        for path in self._files():
            require_regular(path)
        # A training writes where it runs before its recipe, and everything else after it.
        later = [path.name for path in self._files() if path != self.environment]
        refuse_foreign(self.path, later, self.recipe.name, f"{self.checkpoints.name}/step-*")

    def _files(self) -> list[Path]:
        """What a training reads and writes, but for checkpoints to go on from."""
        texts = [self.recipe, self.environment, self.metrics, self.result]
        return [*texts, *self.weights.values(), self.posteriors, self.curves, self.confusion]

    def refuse_change(
        self,
        started: dict[str, Any],
        recipe: dict[str, Any],
        remedy: str = "choose another --out, or start over beside it with --fresh",
        going_on: bool = False,
        source: Path | None = None,
    ) -> None:
        """Raise UsageError with the difference where the resolved recipe is not that of the start.

        What one of the two leaves to the machine is no difference; nor, for a training that is
        `going_on`, are more epochs or what is FREE. `source` is where the start is known from, if
        not from the folder.
        """
        before, now = flat(started), flat(recipe)
        changes = []
        for key in sorted(before.keys() | now.keys()):
            old, new = before.get(key, ABSENT), now.get(key, ABSENT)
            # The steps already taken are the same, so more of them change nothing.
            allowed = going_on and (key in FREE or (key == EPOCHS and new > old))
            if old != new and "auto" not in (old, new) and not allowed:
                changes.append(f"  {key}: {old} -> {new}")
        if changes:
            raise UsageError(
                f"{source or self.path} was started with another recipe:\n"
                + "\n".join(changes)
                + "\n"
                f"go on with the old values, or {remedy}"
            )

    def begin(
        self, recipe: dict[str, Any], environment: dict[str, Any], extended: dict[str, int] | None
    ) -> str | None:
        """Write the resolved recipe and where the training runs now.

        `extended` says of a training that goes on longer than planned where and from how many
        epochs; it is added to those of earlier calls. Gives a warning where the machine has changed
        in what bit-for-bit equality depends on, or where it cannot be known.
        """
        before = read_environment(self.environment)
        history = read_extensions(before)
        if extended is not None and extended not in history:
            history.append(extended)
        if history:
            environment = environment | {"extended": history}
        # First, or a process killed between the two would forget the extension.
        unknown = not before and self.environment.exists()
        write_json(self.environment, environment)
        self._write_recipe(recipe)
        if unknown:
            # It decides no number: for its sake no training is stopped.
            return f"{self.environment} was damaged: where this run began is no longer known"
        return _moved(before, environment) if before else None

    def extensions(self) -> list[dict[str, int]]:
        """Each time the training went on longer than planned: where, and epochs before and now."""
        return read_extensions(read_environment(self.environment))

    def keep_recipe(self, recipe: dict[str, Any]) -> None:
        """Write the resolved recipe where there is none."""
        if not self.recipe.exists():
            self._write_recipe(recipe)

    def _write_recipe(self, recipe: dict[str, Any]) -> None:
        with publish_text(self.recipe) as file:
            file.write(yaml.dump(recipe))

    def truncate_metrics(self, step: int) -> None:
        """Drop the records of steps after `step`: the training will take those again."""
        if not self.metrics.exists():
            return
        kept = "".join(
            json.dumps(record) + "\n" for record in self.records() if record["step"] <= step
        )
        # Also where only a torn line goes: the next one would be written behind it.
        if kept.encode() != self.metrics.read_bytes():
            with publish_text(self.metrics) as file:
                file.write(kept)

    def records(self) -> list[dict[str, Any]]:
        """The records of all epochs so far; raises ParadiseError for a line that is none."""
        return read_records(self.metrics)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one record as a line of JSON."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise ParadiseError(f"cannot write {self.metrics}: {error.strerror}") from error


def _moved(before: dict[str, Any], environment: dict[str, Any]) -> str | None:
    """What has changed of that on which bit-for-bit equality depends."""
    # Older versions knew of one process only, and not of the modules that a recipe imports.
    older = {"processes": 1, "imports": environment.get("imports")}
    before, now = (older | each for each in (before, environment))
    warnings = []
    # Each of these decides in which order numbers are added up.
    if changed := _changes(before, now, ("torch", "device", "processor", "threads", "processes")):
        warnings.append(f"this run began elsewhere ({changed}): going on is exact only to rounding")
    if changed := _changes(before, now, ("paradise", "commit", "imports")):
        warnings.append(f"this run began with other code ({changed}): what follows is of the new")
    return "; ".join(warnings) or None


def _changes(before: dict[str, Any], now: dict[str, Any], keys: Iterable[str]) -> str:
    """`key old -> new` of each of the keys whose value has changed."""
    return ", ".join(
        f"{key} {printable(str(before.get(key)), 80)} -> {now.get(key)}"
        for key in keys
        if before.get(key) != now.get(key)
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping from dotted paths to plain values."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)
    else:
        return {prefix: value}
    parts = [flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in items]
    return {path: item for part in parts for path, item in part.items()}


def free_name(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    number = 2
    candidate = path
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


def latest_name(path: Path, recipe: str) -> Path:
    """The newest of `path`, `path-2`, ... that holds a run of that recipe's name, or `path`: where
    a command goes on.
    """
    latest = path
    following = path.with_name(f"{path.name}-2")
    number = 2
    # Names are given without gaps, so the first that is missing ends the search.
    while following.exists():
        # `path-2` may as well be the run of a recipe that is itself called so.
        if _recipe_name(following) == recipe:
            latest = following
        number += 1
        following = path.with_name(f"{path.name}-{number}")
    return latest


def _recipe_name(run: Path) -> str | None:
    """The name of the recipe of a run, None where there is none that can be read."""
    try:
        document = yaml.parse(RunFolder(run).recipe.read_text(encoding="utf-8"), str(run))
    except (OSError, UnicodeDecodeError, ParadiseError):
        return None
    name = document.data.get("name")
    return name if isinstance(name, str) else None
