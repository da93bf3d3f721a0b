"""Trainings that the benchmarks of robust training share: begun once, gone on with, never changed.

Each lies in a folder of `--runs`. One that is finished is only read, and a recipe that is not the
one it was begun with is refused, so that a number always belongs to the recipe that it names.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timing import machine

from paradise_cli import library
from paradise_cli.core.proportions import wilson
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.training.loop import Reporter
from paradise_cli.training.run_folder import RunFolder

PREFERRED = ("best averaged", "best plain", "last averaged", "last plain")
"""Which weights are measured: the first of these that a training has left."""


class Shown(Reporter):
    """A line an epoch, so that a log in a file can be read."""

    def __init__(self, label: str, epochs: int) -> None:
        self.label = label
        self.epochs = epochs

    def epoch(self, record: dict[str, Any]) -> None:
        numbers = record.get("validation", {})
        shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(
            f"{self.label}: epoch {record['epoch']} of {self.epochs}, {record['seconds']:.0f} s:"
            f" loss {record['train']['loss']:.4g}; {shown}",
            flush=True,
        )
        for alarm in record.get("alarms", []):
            print(f"{self.label}: ALARM {alarm['text']}", flush=True)

    def say(self, text: str) -> None:
        print(f"{self.label}: {text}", flush=True)


def trained(recipe: Recipe, folder: Path, label: str, device: str = "auto") -> dict[str, Any]:
    """The result of this training; raises UsageError where the folder holds another one."""
    run = RunFolder(folder)
    if not run.result.exists():
        shown = Shown(label, recipe.train.epochs)
        library.train(recipe, out=run.path, device=device, reporter=shown)
    else:
        run.refuse_change(
            load_recipe(str(run.recipe)).recipe.resolved(),
            recipe.resolved(),
            remedy=f"choose another --runs, or remove {run.path}",
        )
    return dict(json.loads(run.result.read_text(encoding="utf-8")))


def chosen_weights(result: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Of the weights that a training of the recipe has left, those that are measured.

    A training that withstands nothing has its best weights by chance, most often in its first
    epoch: of those the last are measured.
    """
    weights: dict[str, dict[str, Any]] = {each["weights"]: each for each in result["weights"]}
    names = [name for name in PREFERRED if name in weights]
    validate = recipe.train.validate
    if validate and not _withstands(result, weights[names[0]], validate.images):
        names.sort(key=lambda name: name.startswith("best"))
    return weights[names[0]]


def _withstands(result: Mapping[str, Any], weights: Mapping[str, Any], images: int) -> bool:
    """Whether more of the attacked images stand than with one answer to all, beyond chance."""
    standing = round(plain_names(weights["validation"])["robust"] * images)
    low, _ = wilson(standing, images)
    return low > 1 / result["test"]["classification"][0]["classes"]


def plain_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """`accuracy` for `accuracy/task`: these recipes have one task."""
    return {name.partition("/")[0]: value for name, value in metrics.items()}


def data_root(asked: argparse.Namespace) -> list[str]:
    """The override that says where the images are, where the user said so."""
    return [] if asked.data is None else [f"data.root={asked.data}"]


def parser(description: str | None, runs: str) -> argparse.ArgumentParser:
    """Options of all of them; `runs` is the usual place of the trainings."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--data", type=Path, help="folder of the data, for image folders")
    found.add_argument("--runs", type=Path, default=Path(runs), help="trainings")
    found.add_argument("--threads", type=int, help="cores to use")
    found.add_argument("--device", default="auto")
    return found


def begin(asked: argparse.Namespace) -> None:
    """The cores that were asked for, and a line on the machine."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    machine()
