"""The comparison of robust trainings: what is counted, what is kept, and what its tables say."""

import argparse
import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.core.proportions import Proportion
from paradise_cli.recipe.schema import load_recipe

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RECIPE = """
name: tiny
data:  {name: digits}
model: {backbone: {name: mlp, hidden: [8]}, latent_dim: 4, stochastic: false}
objective:
  tasks: [{distortion: {name: cross_entropy}, head: {name: linear}}]
  alpha: 0
optim: {name: adam, lr: 1.0e-2}
train:
  {epochs: 1, batch_size: 128, seed: 0, average: {}, validate: {attack: {eps: 0.05, steps: 1}}}
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, whose rows and recipes are in a temporary folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # A result says which script made it, and the workers of pytest-xdist have no script.
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "robust_training.py")])
    module = importlib.import_module("robust_training")
    for name in ("results", "robust_tables", "robust_training"):
        monkeypatch.setattr(importlib.import_module(name), "FOLDER", tmp_path / "results")
    recipe = tmp_path / "digits_robust_tiny.yaml"
    recipe.write_text(RECIPE)
    monkeypatch.setattr(module, "shipped_recipes", lambda: {recipe.stem: recipe})
    return module


def asked(folder: Path, **changed: Any) -> argparse.Namespace:
    given = {
        "set": "digits", "seeds": 1, "only": [], "suites": ["quick"], "n": 20, "data": None,
        "runs": folder / "runs", "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return argparse.Namespace(**given | changed)


def attacked(settings: Any, classifier: Any, images: Tensor, *others: Any, **more: Any) -> Any:
    """A report on these images, of which half stand: a real attack takes longer than a test may."""
    half = Proportion.of(len(images) // 2, len(images))
    return SimpleNamespace(
        clean_accuracy=half, robust_accuracy=half, rows=images, verdict="not detected",
        standing=torch.arange(len(images)) % 2 == 1,
        provenance=SimpleNamespace(spent=SimpleNamespace(seconds=1.0)),
        to_json=lambda: {"eps": settings.eps},
    )  # fmt: skip


def test_a_row_is_made_once_and_shown(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "attack_with", attacked)
    (row,) = bench.rows(asked(tmp_path))
    assert bench.made(row, redo=False)
    file = json.loads(row.file.read_text())
    (kept,) = file["rows"]
    assert kept["weights"] == "best averaged" and kept["eps"] == 0.05
    assert kept["suites"]["quick"]["standing"] == "01" * 10
    assert kept["suites"]["quick"]["robust"]["value"] == 0.5 and kept["natural"]["n"] == 360
    # The worst of ten steps moves a posterior further than a random corner does.
    shifts = [kept["local"][name]["value"] for name in ("random_shift", "worst_shift")]
    assert kept["local"]["n"] == 20 and 0 < shifts[0] < shifts[1]
    assert {*kept["validation"]} == {*importlib.import_module("robust_runs").PREFERRED}
    # Made already: whatever would be done would fail.
    monkeypatch.setattr(bench, "attack_with", None)
    assert bench.made(row, redo=False)
    # In another precision it would be another row.
    (other,) = bench.rows(asked(tmp_path, precision="bf16"))
    assert row.before() == kept and other.before() == {}
    # More images are another measurement, and its failure is said beside what was measured.
    (more,) = bench.rows(asked(tmp_path, n=21))
    assert not bench.made(more, redo=False)
    (kept,) = json.loads(row.file.read_text())["rows"]
    assert "not callable" in kept["failed"] and kept["suites"]["quick"]["n"] == 20
    # What is there of another recipe is not lost with this one.
    assert not bench.made(other, redo=False)
    assert json.loads(row.file.read_text())["rows"] == [kept]
    shown = importlib.import_module("robust_tables").robust_table("robust_digits")
    assert "0 failed: TypeError" in shown and "| `tiny` |" in shown


@pytest.mark.parametrize(("standing", "chosen"), [(0.46, "best averaged"), (0.3, "last averaged")])
def test_weights_that_may_withstand_no_more_than_one_answer_to_all_are_not_chosen_by_it(
    bench: ModuleType, tmp_path: Path, standing: float, chosen: str
) -> None:
    """Of four classes one answer is right for a quarter, however hard it is attacked.

    Wilson 95% of 23 in 50 is 33.0% to 59.6%, of 15 in 50 19.1% to 43.8%.
    """
    runs = importlib.import_module("robust_runs")
    weights = [
        {"weights": name, "validation": {"robust/task": standing}} for name in runs.PREFERRED
    ]
    result = {"weights": weights, "test": {"classification": [{"classes": 4}]}}
    recipe = load_recipe(str(tmp_path / "digits_robust_tiny.yaml"), ["train.validate.images=50"])
    assert runs.chosen_weights(result, recipe.recipe)["weights"] == chosen
    unattacked = load_recipe(str(tmp_path / "digits_robust_tiny.yaml"), ["train.validate=null"])
    assert runs.chosen_weights(result, unattacked.recipe)["weights"] == "best averaged"


def row(method: str, seed: int, robust: float, **others: Any) -> dict[str, Any]:
    share = {"value": robust, "low": 0, "high": 1}
    standard = {"robust": share, "n": 100, "verdict": "not detected"}
    four = {name: {"robust": 0.25} for name in ("last plain", "best plain", "last averaged")}
    return {
        "method": method, "seed": seed, "data": "digits", "eps": 0.1, "epochs": 3,
        "natural": {"value": 0.9}, "passes": {"forward": 2.0, "back": 2.0},
        "validation": four | {"best averaged": {"robust": 0.5}},
        "suites": {"standard": standard}, "alarms": [],
        "local": {"linearity": 0.25, "wavering": {"value": 0.01},
                  "random_shift": {"value": 0.1}, "worst_shift": {"value": 0.5}}, **others,
    }  # fmt: skip


def test_tables_give_means_over_seeds_and_say_what_is_lacking(
    bench: ModuleType, tmp_path: Path
) -> None:
    """sd of .3 and .5 is .1414; Wilson of 40 in 100 is 30.9% to 49.8%."""
    tables = importlib.import_module("robust_tables")
    for name in ("robust_digits_weights", "robust_short"):
        assert "Nothing was measured yet" in tables.robust_table(name)
    low = row("low", 0, 0.1, alarms=[{"kind": "rate_at_cap", "epoch": 2}])
    low["validation"]["last plain"] = {"robust": 0.0}
    natural = {"natural": {"value": 0.9, "n": 100}}
    for each in (low, row("high", 0, 0.3), row("high", 1, 0.5)):
        path = tmp_path / "results" / "robust" / "digits" / f"{each['method']}-{each['seed']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"rows": [each | natural], "commit": "abcdefghi", "machine": "M"})
        )
    lines = tables.robust_table("robust_digits").splitlines()
    assert lines[3] == (
        "| `high` | 90.0% ± 0.0 (82.6% to 94.5%) | 40.0% ± 14.1 (30.9% to 49.8%) |  |"
        " not detected | none | 2 + 2 | 3 | 0, 1 |"
    )
    assert lines[4].startswith("| `low` | 90.0% (82.6% to 94.5%) | 10.0% (5.5% to 17.4%) |  |")
    assert "| rate at cap: 1 of 1, epoch 2 |" in lines[4] and "Commit abcdefg; M; fp32." in lines[6]
    weights = tables.robust_table("robust_digits_weights").splitlines()
    assert weights[3] == (
        "| `high` | 25.0% ± 0.0 | 25.0% ± 0.0 | 25.0% ± 0.0 | 50.0% ± 0.0 |"
        " best averaged, best averaged |"
    )
    # Nothing that withstands is a number, too.
    assert weights[4].startswith("| `low` | 0.0% | 25.0% |")
    local = tables.robust_table("robust_digits_local").splitlines()
    assert local[3] == "| `high` | 0.01 | 25.0% | 0.1 | 0.5 | 5.0 |"
    short = tables.robust_table("robust_short").splitlines()
    assert short[1] == "| training | digits, natural | under attack | passes |"
    assert short[3:5] == ["| `high` | 90.0% | 40.0% | 2+2 |", "| `low` | 90.0% | 10.0% | 2+2 |"]


def test_a_gain_is_paired_by_image_and_its_error_has_a_part_of_images_and_one_of_seeds(
    bench: ModuleType, tmp_path: Path
) -> None:
    """Gains 1, 0, 0, 0 and 1, 0, 1, 0: their mean over seeds is 1, 0, .5, 0, of variance .2292; the
    seeds' are .25 and .5, of variance .03125. So .375 +- sqrt(.2292 / 4 + .03125 / 2) = .270.
    """
    tables = importlib.import_module("robust_tables")
    error = math.sqrt(0.6875 / 3 / 4 + 0.03125 / 2)
    assert tables.paired([[1, 0, 0, 0], [1, 0, 1, 0]]) == pytest.approx((0.375, error))
    stands = {("pm_adversarial", 0): "1100", ("pm_adversarial", 1): "1010",
              ("other", 0): "0100", ("other", 1): "0000", ("lonely", 2): "1111"}  # fmt: skip
    for (method, seed), standing in stands.items():
        made = row(method, seed, 0.5)
        made["suites"]["standard"]["standing"] = standing
        path = tmp_path / "results" / "robust" / "digits" / f"{method}-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"rows": [made], "commit": "a", "machine": "M"}))
    lines = tables.robust_table("robust_digits_against").splitlines()
    assert lines[3:5] == ["| `other` | +37.5 ± 27.0 | +25.0, +50.0 | 1.4 |", ""]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"set": "mnist"}, "--set mnist: no recipe mnist_robust_*.yaml; sets with recipes: digits"),
        ({"only": ["big"]}, "--only big: no method of digits; known: tiny"),
    ],
)
def test_what_is_not_there_is_said(
    bench: ModuleType, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception) as error:
        bench.rows(asked(tmp_path, **changed))
    assert str(error.value) == message
