"""`--set key.path=value`."""

from pathlib import Path
from typing import Any

import pytest

from paradise_cli.core.errors import UsageError
from paradise_cli.recipe.schema import load_recipe
from tests.recipe_text import GOOD, Write, lines_of, write_recipe


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)
    return write_recipe


@pytest.mark.parametrize(
    ("override", "at", "value"),
    [
        ("model.latent_dim=5", ("model", "latent_dim"), 5),
        ("optim.lr=1e-4", ("optim", "lr"), 1e-4),
        ("optim.lr=8/255", ("optim", "lr"), 8 / 255),
        ("data.root=8/255", ("data", "root"), "8/255"),
        ("objective.tasks.0.weight=2", ("objective", "tasks", 0, "weight"), 2.0),
        ("model.backbone.hidden=[1, 2]", ("model", "backbone", "hidden"), [1, 2]),
        ("model.backbone.hidden.0=3", ("model", "backbone", "hidden", 0), 3),
        ("data.root=some/where=else", ("data", "root"), "some/where=else"),
        ("data.root=", ("data", "root"), None),
        ("data.root=photos#2", ("data", "root"), "photos#2"),
        ("data.root='photos #2'", ("data", "root"), "photos #2"),
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
def test_an_override_sets_one_value(
    write: Write, override: str, at: tuple[str | int, ...], value: object
) -> None:
    before = load_recipe(write(GOOD)).recipe.resolved()
    after = load_recipe("r.yaml", [override]).recipe.resolved()
    old: Any = before
    new: Any = after
    for part in at[:-1]:
        old, new = old[part], new[part]
    assert new[at[-1]] == value
    old[at[-1]] = value
    assert before == after


def test_later_overrides_win_and_may_build_on_earlier_ones(write: Write) -> None:
    overrides = ["optim.lr=1", "optim.schedule=cosine", "optim.schedule.warmup=0.25", "optim.lr=2"]
    optim = load_recipe(write(GOOD), overrides).recipe.optim
    assert optim.lr == 2 and optim.schedule.hyper == {"warmup": 0.25}


def test_one_text_is_one_override_and_none_is_none(write: Write) -> None:
    written = load_recipe(write(GOOD)).recipe
    assert (
        load_recipe("r.yaml", "optim.lr=2").recipe == load_recipe("r.yaml", ["optim.lr=2"]).recipe
    )
    assert load_recipe("r.yaml", None).recipe == written  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", [{"optim.lr": 2}, 5, [5], [["optim.lr=2"]], b"optim.lr=2"])
def test_overrides_are_a_list_of_texts(write: Write, odd: Any) -> None:
    write(GOOD)
    with pytest.raises(UsageError, match=r"overrides must be a list of texts such as \['train.ep"):
        load_recipe("r.yaml", odd)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.latent_dim=abc", "model.latent_dim: should be a valid integer (got 'abc')"),
        ("modle.latent_dim=3", "modle: unknown key; did you mean 'model'?"),
        ("model.latent=3", "model.latent: unknown key; did you mean 'latent_dim'?"),
        ("epochs", "expected key.path=value, as in train.epochs=3"),
        ("=3", "expected key.path=value, as in train.epochs=3"),
        ("a..b=3", "expected key.path=value, as in train.epochs=3"),
        (
            "objective.tasks.1.weight=2",
            "objective.tasks: is a list; '1' is not one of its indexes (0 to 0)",
        ),
        (
            "objective.tasks.x=2",
            "objective.tasks: is a list; 'x' is not one of its indexes (0 to 0)",
        ),
        (
            "objective.tasks.-1.weight=2",
            "objective.tasks: is a list; '-1' is not one of its indexes (0 to 0)",
        ),
        ("name.x=2", "name: is 'good'; it has no 'x' inside"),
        (f"train.seed={2**63}", "train.seed: '9223372036854775808' is too large a number"),
        ('data.root="a\\0"', "data.root: U+0000 is not allowed in text"),
        ("train.epochs=[", "train.epochs: not valid YAML: while parsing a flow node, "),
        ("train={epochs: 1, epochs: 2}", "train.epochs: duplicate key 'epochs'"),
        ("train.epochs=*x", "train.epochs: aliases are not allowed; write the value out"),
        (
            "model.backbone.name=mpl",
            "model.backbone.name: unknown backbone 'mpl'; did you mean 'mlp'?",
        ),
        ("objective.rate=fit", "objective.rate.q: unknown rate 'fit'; did you mean 'fitted'?"),
        (
            "data.augment=[flap]",
            "data.augment.0.name: unknown augmentation 'flap'; did you mean 'flip'?",
        ),
        ("train={epochs: 1}", "train.batch_size: required, but missing"),
        ("train.init=runs/photos #2", "train.init: `#` begins a comment in YAML"),
        ("data.root=#1/photos", "data.root: `#` begins a comment in YAML"),
        ('data.root="a" # why', "data.root: `#` begins a comment in YAML"),
    ],
)
def test_a_wrong_override_is_named(write: Write, override: str, line: str) -> None:
    messages = lines_of(write(GOOD), override)
    assert len(messages) == 1 and messages[0].startswith(f"--set {override}: {line}")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        (f"objective.tasks.{'9' * 5000}.x=1", "is a list; '999"),
        (f"train.seed=0x{'F' * 4000}", "train.seed: '0xFFF"),
        (f"train.epochs=a{'9' * 4000}", "train.epochs: should be a valid integer"),
    ],
)
def test_an_endless_override_is_not_repeated(write: Write, override: str, reason: str) -> None:
    (message,) = lines_of(write(GOOD), override)
    assert reason in message and len(message) < 300


def test_another_component_drops_nothing_silently(write: Write) -> None:
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


def test_a_component_that_is_short_of_a_value_is_named(write: Write) -> None:
    (message,) = lines_of(write(GOOD), "optim.schedule=exponential")
    at, problem = message.split(": ", 1)
    assert at == "--set optim.schedule=exponential"
    assert problem == "optim.schedule.factor: required by schedule 'exponential', but missing"
