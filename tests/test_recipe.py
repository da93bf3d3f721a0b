"""Recipes: the schema, the place of every mistake, overrides, the shipped files and their JSON schema."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paradise_cli.errors import ParadiseError, UsageError
from paradise_cli.recipe import Recipe, RecipeError, json_schema, load_recipe, parse_resolved
from paradise_cli.recipe_files import HEADINGS, SCHEMA_FILE, find_recipe, read_header, shipped_recipes
from paradise_cli.recipe_yaml import dump, parse
from paradise_cli.resources import resource_dir

GOOD = """\
name: good
data: {name: digits}
model:
  backbone: {name: mlp, hidden: [8]}
  latent_dim: 2
objective:
  tasks:
    - {distortion: {name: cross_entropy}, head: {name: linear}}
  alpha: 1e-3
  rate: {q: batch}
optim: {name: adam, lr: 1e-3}
train: {epochs: 3, batch_size: 128}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write recipe text to r.yaml in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes) -> str:
        Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "r.yaml"

    return write


def lines_of(path: str, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).splitlines()


def test_a_good_recipe_loads_with_its_defaults(write) -> None:
    recipe = load_recipe(write(GOOD)).recipe
    assert recipe.model.backbone.hyper == {"hidden": [8]}
    assert recipe.objective.rate.hyper == {"gradient": "full"}
    assert recipe.optim.hyper == {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
    assert recipe.optim.schedule.name == "constant"
    assert recipe.train.seed == 0 and recipe.data.validation == 0.1


MISTAKES = [  # (text to replace, replacement, where and what the message says)
    ("latent_dim: 2", "latent_dmi: 2", "5:3: model.latent_dmi: unknown key; did you mean 'latent_dim'?"),
    ("latent_dim: 2", "zzz: 2", "5:3: model.zzz: unknown key; known: backbone, latent_dim, stochastic,"),
    ("  latent_dim: 2\n", "", "3:1: model.latent_dim: required, but missing"),
    ("name: mlp", "name: mpl", "4:14: model.backbone.name: unknown backbone 'mpl'; did you mean 'mlp'?"),
    ("name: mlp, ", "", "4:3: model.backbone: lacks its 'name'; known: "),
    ("name: mlp", "name: 3", "4:14: model.backbone.name: unknown backbone 3; known: "),
    (
        "{name: mlp, hidden: [8]}",
        "mlp",
        "4:3: model.backbone.hidden: required by backbone 'mlp', but missing",
    ),
    ("{name: mlp, hidden: [8]}", "5", "4:3: model.backbone: should be a mapping of keys to values (got 5)"),
    (
        "hidden",
        "hiden",
        "4:25: model.backbone.hiden: unknown hyper-parameter of backbone 'mlp'; did you mean 'hidden'?",
    ),
    ("[8]", "8", "4:25: model.backbone.hidden: should be a list such as [1, 2] (got 8)"),
    ("[8]", "[8, x]", "4:37: model.backbone.hidden.1: should be a valid integer (got 'x')"),
    ("latent_dim: 2", "latent_dim: 2.0", "5:3: model.latent_dim: should be a valid integer (got 2.0)"),
    ("latent_dim: 2", "latent_dim: 0", "5:3: model.latent_dim: should be at least 1 (got 0)"),
    (
        "cross_entropy",
        "cross_entropi",
        "8:21: objective.tasks.0.distortion.name: unknown distortion 'cross_entropi'; did you mean 'cross_",
    ),
    (", head: {name: linear}", "", "8:7: objective.tasks.0.head: required, but missing"),
    (
        "{name: linear}}",
        "linear, weight: 0}",
        "8:57: objective.tasks.0.weight: should be greater than 0 (got 0)",
    ),
    (
        "    - {distortion: {name: cross_entropy}, head: {name: linear}}",
        "    []",
        "7:3: objective.tasks: should not be empty (got [])",
    ),
    ("alpha: 1e-3", "alpha: -1", "9:3: objective.alpha: should be at least 0 (got -1)"),
    ("alpha: 1e-3", "alpha: .inf", "9:3: objective.alpha: should be a finite number (got Infinity)"),
    ("alpha: 1e-3", "alpha: .nan", "9:3: objective.alpha: should be a finite number (got NaN)"),
    ("alpha: 1e-3", "alpha: '1'", "9:3: objective.alpha: should be a valid number (got '1')"),
    (
        "alpha: 1e-3",
        "alpha: 1\n  matching: {gamma: 1}",
        "10:3: objective.matching: unknown key; known: tasks, alpha, rate",
    ),
    ("q: batch", "q: bach", "10:10: objective.rate.q: unknown rate 'bach'; did you mean 'batch'?"),
    (
        "q: batch",
        "q: batch, gradient: none",
        "10:20: objective.rate.gradient: should be 'full', 'paper' or 'path' (got 'none')",
    ),
    ("lr: 1e-3", "lr: 0", "11:21: optim.lr: should be greater than 0 (got 0)"),
    (", lr: 1e-3", "", "11:1: optim.lr: required by optimiser 'adam', but missing"),
    (
        "lr: 1e-3",
        "lr: 1e-3, momentum: 0.9",
        "11:31: optim.momentum: unknown hyper-parameter of optimiser 'adam'; known: ",
    ),
    (
        "lr: 1e-3",
        "lr: 1e-3, schedule: {name: steps, at: [1]}",
        "11:31: optim.schedule.factor: required by schedule 'steps', but missing",
    ),
    ("lr: 1e-3", "lr: 1e-3, clip: 0", "11:31: optim.clip: should be greater than 0 (got 0)"),
    ("epochs: 3", "epochs: yes", "12:9: train.epochs: should be a valid integer (got 'yes')"),
    ("epochs: 3", "epochs: true", "12:9: train.epochs: should be a valid integer (got true)"),
    ("epochs: 3", "epochs: -1", "12:9: train.epochs: should be at least 0 (got -1)"),
    ("batch_size: 128", "batch_size: 1", "12:20: train.batch_size: should be at least 2 (got 1)"),
    (
        "batch_size: 128",
        "batch_size: 8, precision: fp16",
        "12:35: train.precision: should be 'auto', 'fp32' or 'bf16' (got 'fp16')",
    ),
    (
        "batch_size: 128",
        "batch_size: 8, channels_last: 1",
        "12:35: train.channels_last: should be 'auto' or should be true or false (got 1)",
    ),
    ("name: digits", "name: digts", "2:8: data.name: unknown data set 'digts'; did you mean 'digits'?"),
    (
        "name: digits",
        "name: digits, augment: [crop, {name: flop}]",
        "2:39: data.augment.1.name: unknown augmentation 'flop'; did you mean 'flip'?",
    ),
    (
        "name: digits",
        "name: digits, augment: [{name: crop, pads: 1}]",
        "2:45: data.augment.0.pads: unknown hyper-parameter of augmentation 'crop'; did you mean 'pad'?",
    ),
    (
        "name: digits",
        "name: digits, augment: flip",
        "2:22: data.augment: should be a list such as [1, 2] (got 'flip')",
    ),
    ("name: digits", "name: digits, validation: 1", "2:22: data.validation: should be less than 1 (got 1)"),
    ("name: digits", "name: digits, root: 5", "2:22: data.root: "),
    ("name: good", "name: ../good", "1:1: name: should start with a letter or digit and hold only "),
    ("name: good", "name: 5", "1:1: name: should be text (quote it if it looks like a number) (got 5)"),
    (
        "train: {epochs: 3, batch_size: 128}",
        "train:",
        "12:1: train: should be a mapping of keys to values (got null)",
    ),
    ("name: good\n", "", "1:1: name: required, but missing"),
]


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES)
def test_a_mistake_is_named_at_its_place(write, old: str, new: str, line: str) -> None:
    assert old in GOOD
    messages = lines_of(write(GOOD.replace(old, new, 1)))
    named = [message for message in messages if message.startswith(f"r.yaml:{line}")]
    assert len(named) == 1
    # A misspelt key may also be missing under its right name.
    assert all(message.endswith("but missing") for message in messages if message not in named)


CONFLICTS = [
    (
        "latent_dim: 2",
        "latent_dim: 2\n  stochastic: false",
        "10:3: objective.alpha: should be 0 where model.stochastic is false",
    ),
    (
        "latent_dim: 2",
        "latent_dim: 2\n  mean: [0.5]",
        "6:3: model.mean: model.mean and model.std go together",
    ),
    (
        "latent_dim: 2",
        "latent_dim: 2\n  mean: [0, 0]\n  std: [1]",
        "7:3: model.std: has 1 values and model.mean 2",
    ),
    (
        "{distortion: {name: cross_entropy}, head: {name: linear}}",
        "{name: a, distortion: bernoulli, head: {name: mlp_decoder, hidden: []}}"
        "\n    - {name: a, distortion: cross_entropy, head: linear}",
        "9:8: objective.tasks.1.name: 'a' is already the name of task 0",
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), CONFLICTS)
def test_fields_that_do_not_go_together(write, old: str, new: str, line: str) -> None:
    messages = lines_of(write(GOOD.replace(old, new, 1)))
    assert len(messages) == 1 and messages[0].startswith(f"r.yaml:{line}")


def test_no_noise_and_no_rate_go_together(write) -> None:
    recipe = load_recipe(write(GOOD), ["model.stochastic=false", "objective.alpha=0"]).recipe
    assert not recipe.model.stochastic


BROKEN = [  # (whole file, the exact start of the message)
    ("", "r.yaml:1:1: is empty; expected sections such as"),
    ("# only a comment\n", "r.yaml:1:1: is empty; "),
    ("- a\n", "r.yaml:1:1: is not a mapping; "),
    ("a: b: c\n", "r.yaml:1:5: mapping values are not allowed here"),
    ("a: [1,\nb: 2\n", "r.yaml:3:1: not valid YAML: while parsing a flow sequence, "),
    ("a: 1\n---\nb: 2\n", "r.yaml:2:1: not valid YAML: expected a single document in the stream"),
    ("a: &x 1\nb: *x\n", "r.yaml:2:4: aliases are not allowed; write the value out"),
    (
        "a: !!python/object/apply:os.system [echo]\n",
        "r.yaml:1:4: tag 'tag:yaml.org,2002:python/object/apply:",
    ),
    ("a: !!timestamp 2001-01-01\n", "r.yaml:1:4: tag 'tag:yaml.org,2002:timestamp' is not allowed"),
    ("a: !!int x\n", "r.yaml:1:4: 'x' is not of type int"),
    ("1: 2\n", "r.yaml:1:1: keys must be plain words"),
    ("x: 1\n[1]: 2\n", "r.yaml:2:1: keys must be plain words"),
    ('a: b\nc: "\x01"\n', "r.yaml:2:5: character U+0001 is not allowed in YAML"),
    ("[" * 5000, "r.yaml:1:1: is nested too deeply"),
    (b"\xff\xfe\x00", "r.yaml: not UTF-8 text (byte 0): is this a recipe?"),
]


@pytest.mark.parametrize(("text", "line"), BROKEN)
def test_a_file_that_is_no_recipe(write, text: str | bytes, line: str) -> None:
    assert any(message.startswith(line) for message in lines_of(write(text)))


def test_duplicate_keys_are_refused_wherever_they_stand(write) -> None:
    text = GOOD.replace("alpha: 1e-3", "alpha: 1e-3\n  alpha: 1").replace("[8]", "[8], hidden: [9]")
    assert lines_of(write(text)) == [
        "r.yaml:4:38: model.backbone.hidden: duplicate key 'hidden' (first in line 4)",
        "r.yaml:10:3: objective.alpha: duplicate key 'alpha' (first in line 9)",
    ]


def test_all_mistakes_come_in_one_message_in_the_order_of_the_file(write) -> None:
    text = (
        GOOD.replace("alpha", "alfa").replace("name: mlp", "name: mpl").replace("good", "good\nname: again")
    )
    lines = lines_of(write(text), "train.epochs=x", "nonsense")
    assert [line.split(": ")[0] for line in lines] == [
        "r.yaml:2:1",
        "r.yaml:5:14",
        "r.yaml:7:1",
        "r.yaml:10:3",
        "--set train.epochs=x",
        "--set nonsense",
    ]


def test_the_problems_are_also_values(write) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(GOOD.replace("alpha", "alfa")))
    first, second = caught.value.problems
    assert (first.place.line, first.path) == (6, "objective.alpha")
    assert (second.place.line, second.place.column, second.path) == (9, 3, "objective.alfa")


# ---- YAML 1.2 scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E3", 1000.0), ("+.5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("1.5e+2", 150.0),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("0b1", "0b1"), ("1_000", "1_000"),
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("true", True), ("False", False), ("tRue", "tRue"),
        ("~", None), ("null", None), ("", None), ("12:30", "12:30"), ("2001-01-01", "2001-01-01"),
        ("'1e-3'", "1e-3"), ('"true"', "true"), ("!!str 5", "5"), ("1e", "1e"), (".", "."),
        ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    document = parse(f"a: {text}\n", "r.yaml")
    assert document.problems == []
    assert document.data["a"] == value and type(document.data["a"]) is type(value)


def test_not_a_number_is_read_and_left_to_the_schema() -> None:
    assert math.isnan(parse("a: .nan", "r.yaml").data["a"])


TEXT = st.text(st.characters(codec="utf-8"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc19.eEon", min_size=1), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "on", "1", "null", "1e3"]), PLAIN, min_size=1))
def test_what_is_dumped_is_parsed_back(data: dict[str, Any]) -> None:
    document = parse(dump(data), "r.yaml")
    assert document.problems == [] and document.data == data


@given(st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    document = parse(text, "r.yaml")
    assert isinstance(document.data, dict) and (document.data or document.problems or text.strip() == "{}")


@given(st.floats(min_value=0, allow_infinity=False), st.integers(1, 10**6), st.booleans())
def test_a_resolved_recipe_is_read_back_equal(alpha: float, latent_dim: int, flip: bool) -> None:
    data = yaml.safe_load(GOOD.replace("1e-3", "0.001"))
    data["objective"]["alpha"], data["model"]["latent_dim"] = alpha, latent_dim
    data["data"]["augment"] = [{"name": "flip"}] if flip else []
    recipe = parse_resolved(data, "weights")
    assert recipe.objective.alpha == alpha
    assert parse_resolved(json.loads(json.dumps(recipe.resolved())), "weights") == recipe


# ---- overrides


@pytest.mark.parametrize(
    ("override", "at", "value"),
    [
        ("model.latent_dim=5", ("model", "latent_dim"), 5),
        ("optim.lr=1e-4", ("optim", "lr"), 1e-4),
        ("objective.tasks.0.weight=2", ("objective", "tasks", 0, "weight"), 2.0),
        ("model.backbone.hidden=[1, 2]", ("model", "backbone", "hidden"), [1, 2]),
        ("model.backbone.hidden.0=3", ("model", "backbone", "hidden", 0), 3),
        ("data.root=some/where=else", ("data", "root"), "some/where=else"),
        ("data.root=", ("data", "root"), None),
        ("name=on", ("name",), "on"),
        ("optim.schedule.name=cosine", ("optim", "schedule"), {"name": "cosine", "warmup": 0.0}),
        ("optim.schedule=cosine", ("optim", "schedule"), {"name": "cosine", "warmup": 0.0}),
        ("objective.rate=fixed", ("objective", "rate"), {"q": "fixed"}),
        (
            "objective.rate={q: batch, gradient: path}",
            ("objective", "rate"),
            {"q": "batch", "gradient": "path"},
        ),
        ("data.augment=[crop]", ("data", "augment"), [{"name": "crop", "pad": 4, "mode": "zero"}]),
    ],
)
def test_an_override_sets_one_value(write, override: str, at: tuple[str | int, ...], value: object) -> None:
    before = load_recipe(write(GOOD)).recipe.resolved()
    after = load_recipe("r.yaml", [override]).recipe.resolved()
    old: Any = before
    new: Any = after
    for part in at[:-1]:
        old, new = old[part], new[part]
    assert new[at[-1]] == value
    old[at[-1]] = value
    assert before == after


def test_later_overrides_win_and_may_build_on_earlier_ones(write) -> None:
    overrides = ["optim.lr=1", "optim.schedule=cosine", "optim.schedule.warmup=0.25", "optim.lr=2"]
    optim = load_recipe(write(GOOD), overrides).recipe.optim
    assert optim.lr == 2 and optim.schedule.hyper == {"warmup": 0.25}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.latent_dim=abc", "model.latent_dim: should be a valid integer (got 'abc')"),
        ("modle.latent_dim=3", "modle: unknown key; did you mean 'model'?"),
        ("model.latent=3", "model.latent: unknown key; did you mean 'latent_dim'?"),
        ("epochs", "expected key.path=value, as in train.epochs=3"),
        ("=3", "expected key.path=value, as in train.epochs=3"),
        ("a..b=3", "expected key.path=value, as in train.epochs=3"),
        ("objective.tasks.1.weight=2", "objective.tasks: is a list; '1' is not one of its indexes (0 to 0)"),
        ("objective.tasks.x=2", "objective.tasks: is a list; 'x' is not one of its indexes (0 to 0)"),
        (
            "objective.tasks.-1.weight=2",
            "objective.tasks: is a list; '-1' is not one of its indexes (0 to 0)",
        ),
        ("name.x=2", "name: is 'good'; it has no 'x' inside"),
        ("train.epochs=[", "train.epochs: not valid YAML: while parsing a flow node, "),
        ("train={epochs: 1, epochs: 2}", "train.epochs: duplicate key 'epochs'"),
        ("train.epochs=*x", "train.epochs: aliases are not allowed; write the value out"),
        ("model.backbone.name=mpl", "model.backbone.name: unknown backbone 'mpl'; did you mean 'mlp'?"),
        ("objective.rate=fit", "objective.rate.q: unknown rate 'fit'; did you mean 'fitted'?"),
        ("data.augment=[flap]", "data.augment.0.name: unknown augmentation 'flap'; did you mean 'flip'?"),
        ("train={epochs: 1}", "train.batch_size: required, but missing"),
    ],
)
def test_a_wrong_override_is_named(write, override: str, line: str) -> None:
    messages = lines_of(write(GOOD), override)
    assert len(messages) == 1 and messages[0].startswith(f"--set {override}: {line}")


def test_another_component_drops_nothing_silently(write) -> None:
    (message,) = lines_of(
        write(GOOD.replace("q: batch", "q: batch, gradient: path")), "objective.rate.q=fixed"
    )
    assert message.startswith(
        "r.yaml:10:20: objective.rate.gradient: unknown hyper-parameter of rate 'fixed'"
    )
    assert message.endswith(
        "`--set objective.rate.q=fixed` keeps the other keys: to replace them all, use"
        " --set 'objective.rate={q: fixed}'"
    )
    assert load_recipe("r.yaml", ["objective.rate={q: fixed}"]).recipe.objective.rate.q == "fixed"


def test_a_component_that_is_short_of_a_value_is_named(write) -> None:
    (message,) = lines_of(write(GOOD), "optim.schedule=exponential")
    at, problem = message.split(": ", 1)
    assert at == "--set optim.schedule=exponential"
    assert problem == "optim.schedule.factor: required by schedule 'exponential', but missing"


# ---- stored recipes


def test_a_stored_recipe_of_another_version_names_the_weights(write) -> None:
    stored = load_recipe(write(GOOD)).recipe.resolved()
    stored["model"]["backbone"]["depht"] = 3
    stored["future"] = 1
    with pytest.raises(ParadiseError) as caught:
        parse_resolved(stored, "runs/a/model.safetensors")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all("runs/a/model.safetensors" in line for line in lines)
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("stored", [{}, {"name": "x"}])
def test_a_stored_recipe_that_is_none_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ParadiseError, match="required, but missing"):
        parse_resolved(stored, "w")


def test_a_recipe_cannot_be_changed(write) -> None:
    recipe = load_recipe(write(GOOD)).recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 5  # type: ignore[misc]


def test_resolved_is_complete(write) -> None:
    resolved = load_recipe(write(GOOD)).recipe.resolved()
    assert resolved["optim"]["beta1"] == 0.9 and resolved["objective"]["rate"] == {
        "q": "batch",
        "gradient": "full",
    }
    assert set(resolved["train"]) == set(type(load_recipe("r.yaml").recipe.train).model_fields)
    assert parse(dump(resolved), "x").data == resolved


# ---- finding recipes


def test_a_path_that_does_not_exist_means_the_shipped_recipe(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "digits.yaml", "recipes/digits.yaml", "anything/digits.yml"):
        loaded = load_recipe(name)
        assert loaded.shipped and loaded.source == resource_dir("recipes") / "digits.yaml"
        assert loaded.note and "digits" in loaded.note
    Path("digits").mkdir()
    assert load_recipe("digits").shipped


def test_an_existing_file_comes_before_a_shipped_one(write) -> None:
    write(GOOD)
    Path("r.yaml").rename("digits.yaml")
    loaded = load_recipe("digits.yaml")
    assert not loaded.shipped and loaded.note is None and loaded.recipe.name == "good"


def test_an_unknown_recipe_lists_the_known_ones(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = lines_of("digist.yaml")
    assert first == "digist.yaml: no such recipe file; did you mean 'digits'?"
    assert second == f"shipped recipes: {', '.join(shipped_recipes())}"
    assert lines_of(str(tmp_path))[0].startswith(f"{tmp_path}: is a folder, not a recipe")
    assert lines_of("x" * 5000)[0].startswith("x")
    with pytest.raises(UsageError):
        find_recipe("digits.txt")


# ---- what is shipped


SHIPPED = sorted(resource_dir("recipes").glob("*.yaml"))


def test_the_folder_holds_the_recipes() -> None:
    assert len(SHIPPED) >= 20
    assert list(shipped_recipes()) == [path.stem for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_valid_and_documents_itself(path: Path) -> None:
    loaded = load_recipe(str(path))
    assert loaded.recipe.name == path.stem.replace("_", "-")
    assert path.read_text().startswith(f"# yaml-language-server: $schema=./{SCHEMA_FILE}\n# ")
    header = read_header(path)
    assert set(header) == {"shows", *HEADINGS} and all(header.values())
    assert header["command"].startswith(f"paradise train recipes/{path.name}")
    assert parse_resolved(loaded.recipe.resolved(), "w") == loaded.recipe


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_where_the_batch_says_nothing_a_fitted_twin_is_shipped(path: Path) -> None:
    recipe = load_recipe(str(path)).recipe
    twins = [recipe.resolved()]
    if recipe.model.stochastic and recipe.objective.rate.q == "batch" and recipe.model.latent_dim >= 32:
        twins.append(load_recipe(str(path.with_stem(f"{path.stem}_fitted"))).recipe.resolved())
        assert twins[1]["objective"].pop("rate")["q"] == "fitted"
        del twins[0]["objective"]["rate"], twins[0]["name"], twins[1]["name"]
    assert twins[0] == twins[-1]


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    path = resource_dir("recipes") / SCHEMA_FILE
    if os.environ.get("PARADISE_REGENERATE"):
        path.write_text(json.dumps(json_schema(), indent=1) + "\n")
    assert json.loads(path.read_text()) == json_schema(), "run the tests once with PARADISE_REGENERATE=1"


def test_the_schema_completes_components() -> None:
    definitions = json_schema()["$defs"]
    assert set(definitions["backbone_mlp"]["properties"]) == {"name", "hidden"}
    assert definitions["backbone_mlp"]["required"] == ["name", "hidden"]
    assert definitions["rate_batch"]["properties"]["gradient"]["enum"] == ["full", "paper", "path"]
    assert not definitions["optimiser_sgd"]["additionalProperties"]
    assert Recipe.model_fields.keys() == json_schema()["properties"].keys()
