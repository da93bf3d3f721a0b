"""Recipes: the schema, the place of every mistake, and stored recipes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.yaml import dump, parse
from paradise_cli.perturbations.samplers import SAMPLERS, Sampler
from paradise_cli.recipe.check import RecipeError
from paradise_cli.recipe.schema import MOST_LATENTS, load_recipe, parse_resolved
from paradise_cli.recipe.tasks import named_tasks
from tests.recipe_text import GOOD, Write, lines_of, write_recipe


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)
    return write_recipe


def test_a_good_recipe_loads_with_its_defaults(write: Write) -> None:
    recipe = load_recipe(write(GOOD)).recipe
    assert recipe.model.backbone.hyper == {"hidden": [8]}
    assert recipe.objective.rate.hyper == {"gradient": "full"}
    assert recipe.optim.hyper == {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
    assert recipe.optim.schedule.name == "constant"
    assert recipe.train.seed == 0 and recipe.data.validation == 0.1


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        (list[float], "[1/4, 2]", [0.25, 2.0]),
        (tuple[float, float], "[1/4, 3/4]", (0.25, 0.75)),
        (tuple[str, float], "[1/4, 3/4]", ("1/4", 0.75)),
        (tuple[float, ...], "[1/4, 1, 3/4]", (0.25, 1.0, 0.75)),
        (Sequence[float], "[1/4, 3/4]", [0.25, 0.75]),
        (dict[str, float], "{low: 1/4, high: 3/4}", {"low": 0.25, "high": 0.75}),
        (dict[str, list[float] | None], "{low: [1/4], high: null}", {"low": [0.25], "high": None}),
    ],
    ids=str,
)
def test_fractions_are_numbers_in_every_collection_of_numbers(
    monkeypatch: pytest.MonkeyPatch, kind: Any, written: str, meant: object
) -> None:
    def listing(*, values: Any) -> Sampler:
        return SAMPLERS["image"]()

    listing.__annotations__["values"] = kind
    # By a name of its own: a component's schema is kept by that.
    monkeypatch.setattr(SAMPLERS, "_factories", SAMPLERS._factories | {str(kind): listing})
    (view,) = load_recipe("digits", [f"views=[{{name: '{kind}', values: {written}}}]"]).recipe.views
    assert view.hyper == {"values": meant}


def test_values_behind_the_last_one_of_a_pair_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(*, values: tuple[float, float]) -> Sampler:
        return SAMPLERS["image"]()

    monkeypatch.setattr(SAMPLERS, "_factories", SAMPLERS._factories | {"pair": pair})
    with pytest.raises(RecipeError, match=r"views\.0\.values: has too many entries"):
        load_recipe("digits", ["views=[{name: pair, values: [1/4, 3/4, 1/2]}]"])


MISTAKES = [  # (text to replace, replacement, where and what the message says)
    (
        "latent_dim: 2",
        "latent_dmi: 2",
        "5:3: model.latent_dmi: unknown key; did you mean 'latent_dim'?",
    ),
    (
        "latent_dim: 2",
        "zzz: 2",
        "5:3: model.zzz: unknown key; known: backbone, latent_dim, stochastic,",
    ),
    ("  latent_dim: 2\n", "", "3:1: model.latent_dim: required, but missing"),
    (
        "name: mlp",
        "name: mpl",
        "4:14: model.backbone.name: unknown backbone 'mpl'; did you mean 'mlp'?",
    ),
    ("name: mlp, ", "", "4:3: model.backbone: lacks its 'name'; known: "),
    ("name: mlp", "name: 3", "4:14: model.backbone.name: unknown backbone 3; known: "),
    (
        "{name: mlp, hidden: [8]}",
        "mlp",
        "4:3: model.backbone.hidden: required by backbone 'mlp', but missing",
    ),
    (
        "{name: mlp, hidden: [8]}",
        "5",
        "4:3: model.backbone: should be a mapping of keys to values (got 5)",
    ),
    (
        "hidden",
        "hiden",
        "4:25: model.backbone.hiden: unknown hyper-parameter of backbone 'mlp'; did you mean"
        " 'hidden'?",
    ),
    ("[8]", "8", "4:25: model.backbone.hidden: should be a list such as [8] (got 8)"),
    ("[8]", "[8, x]", "4:37: model.backbone.hidden.1: should be a valid integer (got 'x')"),
    (
        "latent_dim: 2",
        "latent_dim: 2.0",
        "5:3: model.latent_dim: should be a valid integer (got 2.0)",
    ),
    ("latent_dim: 2", "latent_dim: 0", "5:3: model.latent_dim: should be at least 1 (got 0)"),
    (
        "cross_entropy",
        "cross_entropi",
        "8:21: objective.tasks.0.distortion.name: unknown distortion 'cross_entropi'; did you mean"
        " 'cross_",
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
    (
        "alpha: 1e-3",
        "alpha: .inf",
        "9:3: objective.alpha: should be a finite number (got Infinity)",
    ),
    ("alpha: 1e-3", "alpha: 1e19", "9:3: objective.alpha: '1e+19' is too large a number"),
    ("alpha: 1e-3", "alpha: .nan", "9:3: objective.alpha: should be a finite number (got NaN)"),
    ("alpha: 1e-3", "alpha: '1'", "9:3: objective.alpha: should be a valid number (got '1')"),
    (
        "alpha: 1e-3",
        "alpha: 8/0",
        "9:3: objective.alpha: should be a number, or a fraction of two such as 8/255, the lower",
    ),
    ("alpha: 1e-3", "alpha: -8/255", "9:3: objective.alpha: should be at least 0 (got -0.03"),
    ("epochs: 3", "epochs: 8/2", "12:9: train.epochs: should be a valid integer (got '8/2')"),
    (
        "alpha: 1e-3",
        "alpha: 1\n  quux: {gamma: 1}",
        "10:3: objective.quux: unknown key; known: tasks, alpha, rate, lagrangian, matching,"
        " linearity",
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
    (
        "name: digits",
        "name: digts",
        "2:8: data.name: unknown data set 'digts'; did you mean 'digits'?",
    ),
    (
        "name: digits",
        "name: digits, augment: [crop, {name: flop}]",
        "2:39: data.augment.1.name: unknown augmentation 'flop'; did you mean 'flip'?",
    ),
    (
        "name: digits",
        "name: digits, augment: [{name: crop, pads: 1}]",
        "2:45: data.augment.0.pads: unknown hyper-parameter of augmentation 'crop'; did you mean"
        " 'pad'?",
    ),
    (
        "name: digits",
        "name: digits, augment: flip",
        "2:22: data.augment: should be a list such as ['flip'] (got 'flip')",
    ),
    (
        "name: digits",
        "name: digits, validation: 1",
        "2:22: data.validation: should be less than 1 (got 1)",
    ),
    ("name: digits", "name: digits, root: 5", "2:22: data.root: "),
    (
        "name: good",
        "name: ../good",
        "1:1: name: should start with a letter or digit and hold only ",
    ),
    (
        "name: good",
        "name: 5",
        "1:1: name: should be text (quote it if it looks like a number) (got 5)",
    ),
    (
        "train: {epochs: 3, batch_size: 128}",
        "train:",
        "12:1: train: should be a mapping of keys to values (got null)",
    ),
    ("name: good\n", "", "1:1: name: required, but missing"),
]


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES)
def test_a_mistake_is_named_at_its_place(write: Write, old: str, new: str, line: str) -> None:
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
    (
        "{name: mlp, hidden: [8]}\n  latent_dim: 2",
        "frozen\n  latent_dim: 2\n  mean: [0]\n  std: [1]",
        "6:3: model.mean: a frozen backbone normalises by itself",
    ),
    (
        "{name: mlp, hidden: [8]}\n  latent_dim: 2",
        "frozen\n  latent_dim: 2\nviews: [{name: corner, eps: 0.1}]",
        "6:1: views: the features of a frozen backbone are computed once",
    ),
    (
        "{name: digits}\nmodel:\n  backbone: {name: mlp, hidden: [8]}",
        "{name: digits, augment: [flip]}\nmodel:\n  backbone: frozen",
        "2:22: data.augment: the features of a frozen backbone are computed once",
    ),
]


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("optim={name: sgd, lr: 1, momentum: %s}", "[0, 1)"),
        ("optim={name: sgd, lr: 1, weight_decay: %s}", "[0, inf)"),
        ("optim={name: adam, lr: 1, beta1: %s}", "[0, 1)"),
        ("optim={name: adam, lr: 1, beta2: %s}", "[0, 1)"),
        ("optim={name: adam, lr: 1, weight_decay: %s}", "[0, inf)"),
        ("optim={name: adamw, lr: 1, beta1: %s}", "[0, 1)"),
        ("optim={name: adamw, lr: 1, beta2: %s}", "[0, 1)"),
        ("optim={name: adamw, lr: 1, weight_decay: %s}", "[0, inf)"),
        ("optim.schedule={name: exponential, factor: %s}", "(0, inf)"),
        ("optim.schedule={name: exponential, factor: 0.5, every: %s}", "[1, inf)"),
        ("optim.schedule={name: steps, at: [1], factor: %s}", "(0, inf)"),
        ("optim.schedule={name: steps, at: [1], factor: 1, warmup_steps: %s}", "[0, inf)"),
        ("optim.schedule={name: steps, at: [1], factor: 1, warmup_factor: %s}", "(0, inf)"),
        ("objective.tasks.0.distortion={name: cross_entropy, label_smoothing: %s}", "[0, 1)"),
        ("objective.rate={q: fitted, momentum: %s}", "[0, 1)"),
        ("objective.rate={q: mixture, momentum: %s}", "[0, 1)"),
    ],
)
def test_hyper_parameters_have_the_range_in_which_they_have_an_effect(
    setting: str, allowed: str
) -> None:
    low, high = (float(end) for end in allowed[1:-1].split(", "))
    name = setting.split("%s")[0].split()[-1].removesuffix(":")

    def load_with(value: float) -> None:
        load_recipe("digits", [setting % f"{value:g}"])

    for value in (low - 1, low if allowed[0] == "(" else low - 2, *([high] if high == 1 else [])):
        with pytest.raises(UsageError, match=rf"{name}: should be (at least|greater|less)"):
            load_with(value)
    if allowed[0] == "[":
        load_with(low)
    load_with(low + 1 if high > 1 else 0.5)


def test_without_noise_there_is_no_frontier(write: Write) -> None:
    chosen = ["model.stochastic=false", "objective.alpha=0", "train.frontier=[0.1]"]
    with pytest.raises(ParadiseError, match=r"train.frontier: without noise there is no rate"):
        load_recipe(write(GOOD), chosen)


def test_a_decoder_has_no_labels_to_choose() -> None:
    with pytest.raises(UsageError, match=r"tasks\.0\.target: squared_error reads no label: leave"):
        load_recipe("digits_unsupervised", ["objective.tasks.0.target=digit"])


@pytest.mark.parametrize(("old", "new", "line"), CONFLICTS)
def test_fields_that_do_not_go_together(write: Write, old: str, new: str, line: str) -> None:
    messages = lines_of(write(GOOD.replace(old, new, 1)))
    assert len(messages) == 1 and messages[0].startswith(f"r.yaml:{line}")


def test_no_noise_and_no_rate_go_together(write: Write) -> None:
    recipe = load_recipe(write(GOOD), ["model.stochastic=false", "objective.alpha=0"]).recipe
    assert not recipe.model.stochastic


BROKEN = [  # (whole file, the exact start of the message)
    ("", "r.yaml:1:1: is empty; expected lines such as"),
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
    ("[" * 2000, "r.yaml:1:1: is nested too deeply"),
    (b"\xff\xfe\x00", "r.yaml: not UTF-8 text (byte 0): is this a recipe?"),
]


@pytest.mark.parametrize(("text", "line"), BROKEN)
def test_a_file_that_is_no_recipe(write: Write, text: str | bytes, line: str) -> None:
    assert any(message.startswith(line) for message in lines_of(write(text)))


def test_duplicate_keys_are_refused_wherever_they_stand(write: Write) -> None:
    text = GOOD.replace("alpha: 1e-3", "alpha: 1e-3\n  alpha: 1").replace("[8]", "[8], hidden: [9]")
    assert lines_of(write(text)) == [
        "r.yaml:4:38: model.backbone.hidden: duplicate key 'hidden' (first in line 4)",
        "r.yaml:10:3: objective.alpha: duplicate key 'alpha' (first in line 9)",
    ]


def test_all_mistakes_come_in_one_message_in_the_order_of_the_file(write: Write) -> None:
    text = (
        GOOD.replace("alpha", "alfa")
        .replace("name: mlp", "name: mpl")
        .replace("good", "good\nname: again")
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


def test_the_problems_are_also_values(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(GOOD.replace("alpha", "alfa")))
    first, second = caught.value.problems
    assert (first.place.line, first.path) == (6, "objective.alpha")
    assert (second.place.line, second.place.column, second.path) == (9, 3, "objective.alfa")


@given(st.floats(min_value=0, allow_infinity=False), st.integers(1, MOST_LATENTS), st.booleans())
def test_a_resolved_recipe_is_read_back_equal(alpha: float, latent_dim: int, flip: bool) -> None:
    data = yaml.safe_load(GOOD.replace("1e-3", "0.001"))
    data["objective"]["alpha"], data["model"]["latent_dim"] = alpha, latent_dim
    data["data"]["augment"] = [{"name": "flip"}] if flip else []
    recipe = parse_resolved(data, "weights")
    assert recipe.objective.alpha == alpha
    assert parse_resolved(json.loads(json.dumps(recipe.resolved())), "weights") == recipe


def test_a_stored_recipe_of_another_version_names_the_weights(write: Write) -> None:
    stored = load_recipe(write(GOOD)).recipe.resolved()
    stored["model"]["backbone"]["depht"] = 3
    stored["future"] = 1
    with pytest.raises(ParadiseError) as caught:
        parse_resolved(stored, "runs/a/model.safetensors")
    # Nobody mends it line by line.
    assert "\n" not in str(caught.value) and "runs/a/model.safetensors" in str(caught.value)
    assert all(wrong in str(caught.value) for wrong in ("unknown key", "backbone.depht"))
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("stored", [{}, {"name": "x"}])
def test_a_stored_recipe_that_is_none_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ParadiseError, match="required, but missing"):
        parse_resolved(stored, "w")


def test_a_recipe_cannot_be_changed(write: Write) -> None:
    recipe = load_recipe(write(GOOD)).recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 5  # type: ignore[misc]


def test_resolved_is_complete(write: Write) -> None:
    resolved = load_recipe(write(GOOD)).recipe.resolved()
    assert resolved["optim"]["beta1"] == 0.9 and resolved["objective"]["rate"] == {
        "q": "batch",
        "gradient": "full",
    }
    assert set(resolved["train"]) == set(type(load_recipe("r.yaml").recipe.train).model_fields)
    assert parse(dump(resolved), "x").data == resolved


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ((None, "cross_entropy"), ["cross_entropy_2", "cross_entropy"]),
        ((None, None, None), ["cross_entropy", "cross_entropy_2", "cross_entropy_3"]),
        ((None, "cross_entropy_2", None), ["cross_entropy", "cross_entropy_2", "cross_entropy_3"]),
    ],
)
def test_the_name_that_a_task_was_given_is_its_own(
    tasks: tuple[str | None, ...], names: list[str]
) -> None:
    listed = [
        {"distortion": "cross_entropy", "head": "linear", "weight": 1 + at, "name": name}
        for at, name in enumerate(tasks)
    ]
    found = named_tasks(load_recipe("digits", [f"objective.tasks={json.dumps(listed)}"]).recipe)
    assert list(found) == names
    assert [task.weight for task in found.values()] == [1 + at for at in range(len(tasks))]
