"""Robust training compared: every method of a set, each seed trained, attacked and kept as a row.

    python benchmarks/robust_training.py --set fashion_mnist --seeds 3

The methods of a set are the shipped recipes `SET_robust_METHOD.yaml` that validate under attack.
Each is trained into a folder of `--runs` (a training that was begun there goes on), its best
averaged weights by validation (the last, where these withstand nothing) are attacked with each of
`--suites` at the radius that its validation uses, and the row is written to
`results/robust/SET/METHOD-sSEED.json`. A row that is
there is not made again, unless its recipe has changed since or a suite is lacking; whatever fails
is a row that says so. All of seed 0 come first. `tables.py` shows the rows (robust_tables.py).

`--precision bf16` trains and searches in bf16, where that is fast; fp32 decides every image.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from results import FOLDER, save
from robust_measures import local_behaviour
from robust_runs import begin, chosen_weights, data_root, parser, plain_names, trained
from robust_tables import kept_rows

from paradise_cli import library
from paradise_cli.attacks.run import Beside, attack_with
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.core.errors import Interrupted, UsageError
from paradise_cli.core.storage import write_json
from paradise_cli.core.yaml import parse
from paradise_cli.recipe.files import read_text, shipped_recipes
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.robustness.examples import open_examples
from paradise_cli.runs.work import work_of

MARK = "_robust_"
"""Between the name of a set and that of a method, in the name of a recipe."""


def methods(name: str) -> dict[str, Path]:
    """The recipes of a set by method; raises UsageError for a set that has none.

    Those that do not validate under attack are trained for something else, as for `certify`.
    """
    recipes = shipped_recipes()
    found = {
        stem.partition(MARK)[2]: path
        for stem, path in recipes.items()
        if _set(stem) == name and load_recipe(str(path)).recipe.train.validate is not None
    }
    if not found:
        known = ", ".join(sorted({_set(stem) for stem in recipes if MARK in stem})) or "none yet"
        raise UsageError(f"--set {name}: no recipe {name}{MARK}*.yaml; sets with recipes: {known}")
    return found


def _set(stem: str) -> str:
    return stem.partition(MARK)[0] if MARK in stem else ""


def digest(path: Path) -> str:
    """Of what a recipe says; its comments do not count."""
    said = parse(read_text(path), str(path)).data
    return sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Row:
    """One method with one seed: trained, measured and kept."""

    def __init__(self, name: str, method: str, path: Path, seed: int, asked: argparse.Namespace):
        self.method = method
        self.seed = seed
        self.label = f"{method}-s{seed}"
        self.asked = asked
        self.path = path
        self.kept_as = f"robust/{name}/{self.label}"
        self.file = FOLDER / f"{self.kept_as}.json"
        self.run = asked.runs / name / self.label
        # In the folder of the run: whoever removes it to train anew removes them too.
        self.attacks = self.run / "attacks"
        self.root = data_root(asked)

    def before(self) -> dict[str, Any]:
        """What is kept of this row already, if its recipe is still the same."""
        row = self._kept()
        return row if self._is_of_this(row) and "failed" not in row else {}

    def _kept(self) -> dict[str, Any]:
        return kept_rows(self.file)[0] if self.file.exists() else {}

    def _is_of_this(self, row: Mapping[str, Any]) -> bool:
        return all(row.get(name) == said for name, said in self.named().items())

    def named(self) -> dict[str, Any]:
        """What a row says of itself before anything is measured."""
        return {
            "method": self.method,
            "seed": self.seed,
            # What `auto` means is the machine's, and rows are compared.
            "precision": self.asked.precision,
            "recipe_sha256": digest(self.path),
        }

    def complete(self, row: Mapping[str, Any]) -> bool:
        """Whether nothing of what is asked for is lacking."""
        suites = row.get("suites", {})
        return all(suite in suites and self._enough(suites[suite]) for suite in self.asked.suites)

    def _enough(self, found: Mapping[str, Any]) -> bool:
        return bool(found["n"] >= self.asked.n)

    def make(self, before: Mapping[str, Any]) -> None:
        """Train, measure and attack what is lacking before, and keep the row after each suite."""
        row = self.named() | before
        precision = f"train.precision={self.asked.precision}"
        changes = [f"train.seed={self.seed}", precision, *self.root]
        recipe = load_recipe(str(self.path), changes).recipe
        validate = recipe.train.validate
        assert validate is not None, "recipes without it are no methods of the set"
        row["eps"] = validate.attack.eps
        work = work_of(recipe)
        row["passes"] = {"forward": work.forward, "back": work.back}
        result = trained(recipe, self.run, self.label, self.asked.device)
        chosen = chosen_weights(result, recipe)
        if row.get("weights_file") != chosen["file"]:
            # What was measured before was measured of others.
            row["suites"] = {}
        row |= self._trained(recipe, result, chosen)
        weights = self.run / chosen["file"]
        row["natural"] = self._natural(weights)
        row["local"] = self._local(weights, row["eps"])
        for suite in self.asked.suites:
            if suite not in row["suites"] or not self._enough(row["suites"][suite]):
                row["suites"][suite] = self._attacked(weights, suite, row["eps"])
            self.keep(row)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Write the row with how it was measured."""
        save(
            self.kept_as,
            what=f"Robust training: {self.path.stem}, seed {self.seed}",
            columns={},
            rows=[row],
            data=row.get("data", "unknown"),
            n=self.asked.n,
            interval="Wilson 95%, over images",
            seed=self.seed,
            command=self._command(),
        )

    def keep_failure(self, text: str) -> None:
        """Say that it failed beside what was measured; a row of another recipe stays as it is."""
        kept = self._kept()
        if not kept or self._is_of_this(kept):
            self.keep(self.named() | kept | {"failed": text})

    def _command(self) -> str:
        """What makes this row, and those of the seeds before."""
        asked = self.asked
        data = "" if asked.data is None else " --data FOLDER"
        return (
            f"python benchmarks/robust_training.py --set {asked.set} --only {self.method}"
            f" --seeds {self.seed + 1} --suites {','.join(asked.suites)} --n {asked.n}"
            f" --precision {asked.precision}{data}"
        )

    def _trained(
        self, recipe: Recipe, result: Mapping[str, Any], chosen: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the training itself says: which weights it left, what they are worth, and what went
        wrong on the way.
        """
        validation = {
            each["weights"]: plain_names(each["validation"]) for each in result["weights"]
        }
        return {
            "data": result["data"],
            "epochs": recipe.train.epochs,
            "steps": result["steps"],
            "seconds": result["seconds"],
            "weights": chosen["weights"],
            "weights_file": chosen["file"],
            "weights_step": chosen["step"],
            "validation": validation,
            # None where nobody watched: that is not the same as no alarm.
            "alarms": result.get("alarms"),
        }

    def _natural(self, weights: Path) -> dict[str, Any]:
        """Accuracy on all test images, as they are."""
        found = library.evaluate(weights, overrides=self.root, device=self.asked.device)
        share = found.classification[0].top1
        return asdict(share) | {"n": found.n - found.unlabelled}

    def _local(self, weights: Path, eps: float) -> dict[str, Any]:
        """Smoothness and shifts on the images that are attacked."""
        target = open_classifier(str(weights), device=self.asked.device)
        examples = open_examples(target, n=self.asked.n, overrides=self.root)
        assert target.loaded is not None and target.head is not None, "a run folder is a model"
        return local_behaviour(target.loaded, target.head, examples.images, examples.labels, eps)

    def _attacked(self, weights: Path, suite: str, eps: float) -> dict[str, Any]:
        """As `paradise attack` does: every run is on record, and the same call goes on from it."""
        target = open_classifier(str(weights), device=self.asked.device)
        examples = open_examples(target, n=self.asked.n, overrides=self.root)
        folder = self.attacks / weights.stem / f"{suite}-n{self.asked.n}"
        print(f"{self.label}: {suite} on {examples.label}, n = {self.asked.n:,}", flush=True)
        settings = AttackSettings(eps=eps, suite=suite, precision=self.asked.precision)
        report = attack_with(
            settings,
            target.function,
            examples.images,
            examples.labels,
            beside=Beside(pulse=Pulse(self.label)),
            out=folder,
            device=self.asked.device,
        )
        write_json(folder / "report.json", report.to_json())
        print(f"{self.label}: {report}", flush=True)
        return {
            "robust": asdict(report.robust_accuracy),
            "clean": asdict(report.clean_accuracy),
            "n": len(report.rows),
            # A 0 or 1 for each image: differences between methods are paired by them.
            "standing": "".join(str(int(stands)) for stands in report.standing),
            "verdict": report.verdict,
            "seconds": report.provenance.spent.seconds,
        }


class Pulse:
    """A line a minute of an attack."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.last = time.monotonic()

    def __call__(self, what: str, done: int, total: int, standing: float) -> None:
        if time.monotonic() - self.last < 60:
            return
        self.last = time.monotonic()
        share = done / max(total, 1)
        print(f"{self.label}: {what} {share:.0%} done, {standing:.1%} standing", flush=True)


def rows(asked: argparse.Namespace) -> list[Row]:
    """All rows that are asked for; whole tables of one seed before those of the next."""
    chosen = {
        method: path
        for method, path in methods(asked.set).items()
        if not asked.only or method in asked.only
    }
    if unknown := set(asked.only) - chosen.keys():
        raise UsageError(
            f"--only {', '.join(sorted(unknown))}: no method of {asked.set}; known:"
            f" {', '.join(methods(asked.set))}"
        )
    return [
        Row(asked.set, method, path, seed, asked)
        for seed in range(asked.seeds)
        for method, path in chosen.items()
    ]


def made(row: Row, *, redo: bool) -> bool:
    """Make a row that is not there; False where it failed, which the row then says."""
    before = {} if redo else row.before()
    if row.complete(before):
        print(f"{row.label}: measured already, in {row.file.name}", flush=True)
        return True
    try:
        row.make(before)
    except Interrupted:
        raise
    # Of whatever kind: the other rows of a night must not be lost with this one.
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        print(f"{row.label}: FAILED {text}", flush=True)
        row.keep_failure(text)
        return False
    return True


def asked_for() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    options = parser(__doc__, runs="runs/robust")
    options.add_argument("--set", required=True, help="fashion_mnist or cifar10_jpeg75")
    options.add_argument("--seeds", type=int, default=1, help="so many seeds, from 0 on")
    options.add_argument("--only", type=names, default=[], help="these methods, by commas")
    options.add_argument("--suites", type=names, default=["standard", "paper"], help="by commas")
    options.add_argument("--n", type=int, default=1000, help="test images that are attacked")
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options.add_argument("--redo", action="store_true", help="measure rows again that are there")
    return options.parse_args()


if __name__ == "__main__":
    chosen = asked_for()
    begin(chosen)
    try:
        done = [made(row, redo=chosen.redo) for row in rows(chosen)]
    except UsageError as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt):
        sys.exit("stopped; the same command goes on from there")
    failed = len(done) - sum(done)
    print(f"{len(done)} rows, {failed} failed; show them by python benchmarks/tables.py")
    sys.exit(1 if failed else 0)
