"""Components that live outside the package: recipes name the modules that register them."""

import hashlib
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import Registry
from paradise_cli.models import BACKBONES
from paradise_cli.recipe.components import OneOf
from paradise_cli.recipe.imports import module_folders
from paradise_cli.recipe.schema import View, load_recipe, parse_resolved
from tests.recipe_text import GOOD, Write, lines_of, write_recipe

OUTSIDE = '''\
"""A backbone, an augmentation and a schedule of somebody else."""

from torch import nn

from paradise_cli.data import AUGMENTATIONS
from paradise_cli.models import BACKBONES
from paradise_cli.training import SCHEDULES


class Scaled(nn.Flatten):
    def __init__(self, in_shape, factor):
        super().__init__()
        self.out_features, self.factor = in_shape[0] * in_shape[1] * in_shape[2], factor

    def forward(self, x):
        return self.factor * super().forward(x)


@BACKBONES.register
def scaled_pixels(in_shape, *, factor: float = 2.0):
    """The pixels themselves, times a factor."""
    return Scaled(in_shape, factor)


@AUGMENTATIONS.register
def nothing():
    """Leaves the images alone."""
    return lambda images, key: images


@SCHEDULES.register
def halved():
    """Half the learning rate throughout."""
    return lambda step, steps_per_epoch, epochs: 0.5
'''

RECIPE = """\
name: outside
imports: [outside_components]
data: {name: digits, augment: [nothing]}
model:
  backbone: {name: scaled_pixels}
  latent_dim: 3  # is not drawn
objective:
  tasks:
    - {distortion: {name: cross_entropy}, head: {name: linear}}
  alpha: 1e-3
optim: {name: adam, lr: 1e-3, schedule: halved}
train: {epochs: 1, batch_size: 128, precision: fp32}
"""

# A process of its own: what is registered here stays registered.
DRIVER = """\
import json, sys
from typer.testing import CliRunner
from paradise_cli.cli import app

def run(*arguments):
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output)
    return done.stdout

run("recipes", "check", "r.yaml")
trial = json.loads(run("train", "r.yaml", "--dry-run", "--json"))
run("sweep", "r.yaml", "--alpha", "0.01", "--split", "validation", "--out", "s", "--device", "cpu")
trained = "s/points/alpha=0.01"  # by `paradise train`
evaluated = json.loads(run("evaluate", trained, "--device", "cpu", "--json"))
sweep = json.load(open("s/sweep-validation.json"))
print(json.dumps({"trial": trial, "evaluated": evaluated, "failed": sweep["failed"]}))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)
    return write_recipe


def test_every_command_finds_the_components_of_a_module_outside(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "outside_components.py").write_text(OUTSIDE)
    (tmp_path / "r.yaml").write_text(RECIPE)
    # The module is on the driver's path alone, as in a notebook: a sweep must hand it on.
    program = "import sys; sys.path.insert(0, 'mine')\n" + DRIVER
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # 64 pixels to 3 means and 3 widths, and a classifier of 10 classes on 3 latents.
    assert found["trial"]["parameters"] == 2 * (64 * 3 + 3) + 3 * 10 + 10
    assert found["evaluated"]["n"] > 300 and found["failed"] == []
    trained = "s/points/alpha=0.01"
    stored = (tmp_path / trained / "recipe.yaml").read_text()
    assert "imports: [outside_components]" in stored and "factor: 2.0" in stored
    environment = json.loads((tmp_path / trained / "environment.json").read_text())
    digest = hashlib.sha256(OUTSIDE.encode()).hexdigest()[:16]
    assert environment["imports"] == {"outside_components": digest}
    # Where the module is missing, the run says so in one message.
    alone = CliRunner().invoke(app, ["evaluate", str(tmp_path / trained)])
    assert alone.exit_code == 1 and "there is no module 'outside_components'" in alone.stderr


def with_imports(text: str) -> str:
    return GOOD.replace("name: good\n", f"name: good\nimports: {text}\n").replace("mlp", "alien")


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ("[no_such_module]", "2:11: imports.0: there is no module 'no_such_module'; install it"),
        ("[json, json.nope]", "2:17: imports.1: there is no module 'json.nope'; install it, or"),
        ("\n  - beside", "3:5: imports.0: there is no module 'beside': beside lies in "),
        ("[parts/heads.py]", "2:11: imports.0: 'parts/heads.py' is not the name of a module"),
        ("[broken_one]", "2:11: imports.0: module 'broken_one' fails while it is imported: "
                         "ZeroDivisionError: division by zero ("),
        ("[leaving_one]", "2:11: imports.0: module 'leaving_one' fails while it is imported: "
                          "SystemExit"),
        ("[needy_one]", "2:11: imports.0: module 'needy_one' needs 'not_there', which is not"),
        ("[torn_one]", "2:11: imports.0: module 'torn_one' fails while it is imported: "
                       "SyntaxError: '(' was never closed ({path}/torn_one.py:2)"),
        ("[calling_one]", "2:11: imports.0: module 'calling_one' fails while it is imported: "
                          "SyntaxError: '(' was never closed ({path}/torn_one.py:2)"),
        ("[computed_one]", "2:11: imports.0: module 'computed_one' fails while it is imported: "
                           "SyntaxError: invalid syntax ({path}/computed_one.py:1)"),
        # Of a null byte: a SyntaxError, and in older versions of Python a ValueError.
        ("[odd_one]", "2:11: imports.0: module 'odd_one' fails while it is imported: "),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_one_mistake_at_its_place(
    write: Write, monkeypatch: pytest.MonkeyPatch, imports: str, message: str
) -> None:
    path = Path("path")
    path.mkdir()
    (path / "broken_one.py").write_text("1 / 0\n")
    (path / "leaving_one.py").write_text("raise SystemExit(3)\n")
    (path / "needy_one.py").write_text("import not_there\n")
    (path / "torn_one.py").write_text("x = 1\ny = (\n")
    (path / "calling_one.py").write_text("import torn_one\n")
    (path / "computed_one.py").write_text("eval('1 +')\n")
    (path / "odd_one.py").write_bytes(b"x\0")
    Path("beside.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(path.absolute()), *filter(None, sys.path)])
    importlib.invalidate_caches()
    # The recipe's backbone is unknown as well: that is no mistake while its module is missing.
    lines = lines_of(write(with_imports(imports)))
    expected = message.replace("{path}", str(path.absolute()))
    assert len(lines) == 1 and lines[0].startswith(f"r.yaml:{expected}"), lines


def test_what_an_imported_module_sets_for_the_process_is_put_back(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = "import os, torch\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\n"
    (tmp_path / "setting_one.py").write_text(setting)
    (tmp_path / "setting_two.py").write_text(f"{setting}1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = lines_of(write(with_imports("[setting_one, setting_two]")))
    assert len(lines) == 1 and "'setting_two' fails while it is imported: ZeroDiv" in lines[0]
    assert "setting_one" in sys.modules
    assert Path.cwd() == tmp_path and torch.get_default_dtype() == torch.float32


MENDED = """\
import whole_one
from paradise_cli.models import BACKBONES

BACKBONES.register(whole_one.handed_on)

@BACKBONES.register
def alien(in_shape, *, hidden: list[int]):
    return None
"""
WHOLE = """\
from paradise_cli.models import BACKBONES

def handed_on(in_shape):
    return None

@BACKBONES.register
def registered_on_the_way(in_shape):
    return None
"""


def test_a_module_that_failed_is_imported_once_it_is_mended(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BACKBONES, "_factories", dict(BACKBONES._factories))
    before = set(BACKBONES)
    (tmp_path / "whole_one.py").write_text(WHOLE)
    failing = tmp_path / "mended_one.py"
    failing.write_text(f"{MENDED}\nraise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write(with_imports("[mended_one]"))
    # Twice alike: the second time as well it is the user's own line that fails.
    assert lines_of(path) == lines_of(path)
    assert lines_of(path)[0].endswith(f"SystemExit:  ({failing}:10)")
    # What it imported is whole: Python would not run that again.
    assert set(BACKBONES) - before == {"handed_on", "registered_on_the_way"}
    failing.write_text(MENDED)
    assert load_recipe(path).recipe.model.backbone.name == "alien"
    assert set(BACKBONES) - before == {"alien", "handed_on", "registered_on_the_way"}


def test_two_modules_never_register_one_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BACKBONES, "_factories", dict(BACKBONES._factories))
    for name in ("first_one", "second_one"):
        (tmp_path / f"{name}.py").write_text(WHOLE.replace("registered_on_the_way", "alien"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = lines_of(write(with_imports("[first_one, second_one]")))
    assert "imports.1: module 'second_one' fails" in line
    assert "ValueError: backbone 'alien' is registered twice" in line
    assert BACKBONES["alien"].__module__ == "first_one"


def test_an_override_names_modules_too(write: Write) -> None:
    (line,) = lines_of(write(GOOD), "imports=[no_such_module]")
    assert line.startswith("--set imports=[no_such_module]: imports.0: there is no module")


@pytest.mark.parametrize("imports", ["json", "[3]", "{a: b}"])
def test_imports_that_are_no_names_are_refused(write: Write, imports: str) -> None:
    lines = lines_of(write(GOOD.replace("name: good\n", f"name: good\nimports: {imports}\n")))
    assert len(lines) == 1 and ": imports" in lines[0]
    if imports == "json":
        assert lines == ["r.yaml:2:1: imports: should be a list such as ['json'] (got 'json')"]


def test_a_stored_recipe_whose_module_is_missing_names_the_weights(write: Write) -> None:
    stored = load_recipe(write(GOOD)).recipe.resolved()
    assert stored["imports"] == []
    stored["imports"] = ["no_such_module"]
    with pytest.raises(ParadiseError, match=r"w.safetensors needs modules.*no_such_module"):
        parse_resolved(stored, "w.safetensors")


def test_only_folders_of_modules_that_are_not_installed_are_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "part.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("own_package.part")
    names = ["own_package.part", "json", "torch", "sys", "own_package"]
    importlib.import_module("torch")
    assert module_folders(names) == [str(tmp_path)]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("data", ["DATASETS", "AUGMENTATIONS"]),
        ("models", ["BACKBONES", "HEADS"]),
        ("objective", ["DISTORTIONS", "RATES"]),
        ("training", ["OPTIMIZERS", "SCHEDULES"]),
        ("attacks", ["ATTACKS"]),
    ],
)
def test_the_registries_have_stable_names(module: str, names: list[str]) -> None:
    room = importlib.import_module(f"paradise_cli.{module}")
    for name in names:
        assert isinstance(getattr(room, name), Registry) and name in room.__all__


@pytest.mark.parametrize(
    ("parameter", "annotation", "message"),
    [
        ("side", inspect.Parameter.empty, r"its setting 'side' has no type"),
        ("side", "Tensr", r"type of a setting: name 'Tensr' is not defined"),
        ("side", torch.Tensor, r"type of a setting: Unable to generate pydantic-core schema"),
        *[(name, int, rf"a setting cannot be called '{name}'")
          for name in ("name", "around", "parts", "hyper", "model_dump", "_x")],
    ],
)  # fmt: skip
def test_a_setting_that_recipes_cannot_have_is_named(
    parameter: str, annotation: Any, message: str
) -> None:
    """Also one that would get a value of its section, or take an attribute of it."""

    def factory(**given: Any) -> None: ...

    kept = inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    factory.__signature__ = inspect.Signature([kept])  # type: ignore[attr-defined]
    typed = annotation is not inspect.Parameter.empty
    factory.__annotations__ = {parameter: annotation} if typed else {}
    registry: Registry[Any] = Registry("sampler")
    registry.register(factory)
    with pytest.raises(UsageError, match=f"sampler 'factory': {message}"):
        OneOf(registry).model(View, "factory")
