"""Finding recipes, and the ones that are shipped."""

import json
import os
from pathlib import Path

import pytest

from paradise_cli.core.errors import UsageError
from paradise_cli.core.resources import resource_dir
from paradise_cli.recipe.files import (
    HEADINGS,
    SCHEMA_FILE,
    find_recipe,
    read_header,
    shipped_recipes,
)
from paradise_cli.recipe.schema import Recipe, json_schema, load_recipe, parse_resolved
from tests.recipe_text import GOOD, Write, lines_of, write_recipe


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)
    return write_recipe


def test_a_path_that_does_not_exist_means_the_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "digits.yaml", "recipes/digits.yaml", "anything/digits.yml"):
        loaded = load_recipe(name)
        assert loaded.shipped and loaded.source == resource_dir("recipes") / "digits.yaml"
        assert loaded.note and "digits" in loaded.note
    Path("digits").mkdir()
    assert load_recipe("digits").shipped


def test_an_existing_file_comes_before_a_shipped_one(write: Write) -> None:
    write(GOOD)
    Path("r.yaml").rename("digits.yaml")
    loaded = load_recipe("digits.yaml")
    assert not loaded.shipped and loaded.note is None and loaded.recipe.name == "good"


def test_an_unknown_recipe_names_those_that_are_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = lines_of("digist.yaml")
    assert first == "digist.yaml: no such recipe file; did you mean 'digits'?"
    assert second == f"`paradise recipes ls` lists the {len(shipped_recipes())} shipped recipes"
    assert lines_of(str(tmp_path))[0].startswith(f"{tmp_path}: is a folder, not a recipe")
    assert lines_of("x" * 5000)[0].startswith("x")
    with pytest.raises(UsageError):
        find_recipe("digits.txt")


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
    assert (
        set(header) == {"shows", *HEADINGS} and all(header.values()) and "TODO" not in str(header)
    )
    assert header["command"].startswith(
        tuple(f"paradise {verb} recipes/{path.name}" for verb in ("train", "sweep"))
    )
    assert parse_resolved(loaded.recipe.resolved(), "w") == loaded.recipe


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_where_the_batch_says_nothing_a_fitted_twin_is_shipped(path: Path) -> None:
    recipe = load_recipe(str(path)).recipe
    twins = [recipe.resolved()]
    if (
        recipe.model.stochastic
        and recipe.objective.rate.q == "batch"
        and recipe.model.latent_dim >= 32
    ):
        twins.append(load_recipe(str(path.with_stem(f"{path.stem}_fitted"))).recipe.resolved())
        assert twins[1]["objective"].pop("rate")["q"] == "fitted"
        del twins[0]["objective"]["rate"], twins[0]["name"], twins[1]["name"]
    assert twins[0] == twins[-1]


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    path = resource_dir("recipes") / SCHEMA_FILE
    if os.environ.get("PARADISE_REGENERATE"):
        path.write_text(json.dumps(json_schema(), indent=1) + "\n")
    assert json.loads(path.read_text()) == json_schema(), (
        "run the tests once with PARADISE_REGENERATE=1"
    )


def test_the_schema_completes_components() -> None:
    definitions = json_schema()["$defs"]
    assert set(definitions["backbone_mlp"]["properties"]) == {"name", "hidden"}
    assert definitions["backbone_mlp"]["required"] == ["name", "hidden"]
    assert definitions["rate_batch"]["properties"]["gradient"]["enum"] == ["full", "paper", "path"]
    assert not definitions["optimiser_sgd"]["additionalProperties"]
    assert Recipe.model_fields.keys() == json_schema()["properties"].keys()
