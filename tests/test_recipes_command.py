"""`paradise recipes ls | show | check`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from paradise_cli.cli import app as whole
from paradise_cli.cli.recipes import app
from paradise_cli.core.errors import UsageError
from paradise_cli.core.yaml import parse
from paradise_cli.recipe.files import shipped_recipes


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_ls_has_one_line_a_recipe() -> None:
    lines = run("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert all(len(line.split()) > 3 for line in lines)


def test_ls_as_json_holds_the_headers() -> None:
    rows = json.loads(run("ls", "--json").stdout)
    assert [row["name"] for row in rows] == list(shipped_recipes())
    assert all(row["shows"] and row["command"] and Path(row["path"]).is_file() for row in rows)


def test_ls_needs_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from paradise_cli.cli.recipes import app;"
        "assert CliRunner().invoke(app, ['ls']).exit_code == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_show_prints_the_text_as_it_is() -> None:
    assert run("show", "digits").stdout == shipped_recipes()["digits"].read_text()


def test_show_resolved_is_a_complete_recipe_with_its_overrides(tmp_path: Path) -> None:
    result = run("show", "digits", "--resolved", "--set", "train.epochs=7")
    shown = parse(result.stdout, "shown").data
    assert shown["train"]["epochs"] == 7 and shown["train"]["channels_last"] == "auto"
    copy = tmp_path / "copy.yaml"
    copy.write_text(result.stdout)
    assert run("check", str(copy)).exit_code == 0


def test_check_accepts_every_shipped_recipe() -> None:
    result = run("check", *map(str, shipped_recipes().values()))
    assert result.exit_code == 0
    assert [line.rpartition(": ")[2] for line in result.stdout.splitlines()] == ["ok"] * len(
        shipped_recipes()
    )


def test_check_reports_the_mistakes_of_all_files(tmp_path: Path) -> None:
    text = shipped_recipes()["digits"].read_text().replace("alpha:", "alfa:")
    line = text[: text.index("alfa:")].count("\n") + 1
    paths = [str(tmp_path / name) for name in ("a.yaml", "b.yaml")]
    for path in paths:
        Path(path).write_text(text)
    result = run("check", "digits", *paths)
    assert isinstance(result.exception, UsageError)
    for path in paths:
        wanted = f"{path}:{line}:3: objective.alfa: unknown key; did you mean 'alpha'?"
        assert wanted in str(result.exception).splitlines()
    assert "digits: ok" in result.stdout
    rows = json.loads(run("check", "digits", *paths, "--json").stdout)
    assert [len(row["problems"]) for row in rows] == [0, 2, 2]
    assert rows[1]["problems"][1]["at"] == f"{paths[0]}:{line}:3"


@pytest.mark.parametrize("name", ["nothing", "nothing.yaml"])
def test_an_unknown_recipe_is_named(name: str) -> None:
    for command in ("show", "check"):
        assert str(run(command, name).exception).startswith(f"{name}: no such recipe file")


# Settings of the digits, and the sizes that follow from them by hand, in bytes.
ABSURD = [
    # A layer of 10^5 x 10^5 float32, each with its gradient.
    ("model.backbone.hidden=[100000,100000]", 2 * 4 * 10**10, "the weights"),
    # Pseudo-inputs of 8 x 8 pixels, likewise, and the densities of 64 latents under each.
    ("objective.rate={q: vamp, components: 1000000000}", (2 * 4 + 8) * 64 * 10**9, "q ("),
    # Such densities alone: each component is small.
    ("objective.rate={q: mixture, components: 1000000000}", 8 * 64 * 10**9, "q ("),
]


@pytest.mark.parametrize(("setting", "least", "part"), ABSURD)
def test_what_no_memory_holds_is_told_before_it_is_taken(
    setting: str, least: float, part: str, tmp_path: Path
) -> None:
    words = ["digits", "--set", setting]
    refused = run("check", *words)
    assert isinstance(refused.exception, UsageError) and "digits: wrong" in refused.stdout
    message = str(refused.exception)
    assert f"lower what makes {part}" in message
    needed = float(message.split("at least ")[1].split(" GB")[0].replace(",", ""))
    # Not much more than what was reckoned by hand: the rest of the recipe is small.
    assert least <= needed * 1e9 * 1.01 and needed * 1e9 <= 1.2 * least
    for command in (["train", *words, "--dry-run"], ["train", *words, "--out", str(tmp_path)]):
        assert message in CliRunner().invoke(whole, command).stderr
    assert run("check", "digits").exit_code == 0


def test_sizes_that_no_tensor_has_are_one_message() -> None:
    for setting, message in {
        "model.latent_dim": "model.latent_dim: should be at most 65536",
        "model.backbone.hidden.0": "cannot be built",
    }.items():
        refused = run("check", "digits", "--set", f"{setting}={2**63 - 1}")
        assert message in refused.stdout + str(refused.exception)


TASKS = "objective.tasks=[{{distortion: {}, head: {}}}]"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [TASKS.format("squared_error", "{name: mlp_decoder, hidden: [0]}")],
            "digits: objective.tasks.0: mlp_decoder: hidden must be at least 1, not 0",
        ),
        (
            [TASKS.format("squared_error", "linear")],
            "digits: objective.tasks.0: distortion squared_error cannot read head linear",
        ),
        (["objective.rate={q: bank, size: 0}"], "digits: objective.rate: rate bank: size must be"),
        (
            ["model.backbone={name: mlp, hidden: [-1]}"],
            "digits: model.backbone: mlp: hidden must be at least 1, not -1",
        ),
        (
            [
                "objective.alpha=-3",
                TASKS.format(
                    "{name: info_nce, temperature: -1}", "{name: projection, hidden: [4]}"
                ),
            ],
            "objective.tasks.0.distortion: info_nce: temperature must be a number above 0, not -1",
        ),
    ],
)
def test_check_finds_what_only_a_component_knows(overrides: list[str], message: str) -> None:
    words = [word for override in overrides for word in ("--set", override)]
    result = CliRunner().invoke(whole, ["recipes", "check", "digits", *words])
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    # With everything else that is wrong, and before any data.
    assert ("objective.alpha: should be at least 0" in result.stderr) == (len(overrides) == 2)
    trained = CliRunner().invoke(whole, ["train", "digits", *words])
    assert trained.exit_code == 2 and message.removeprefix("digits: ") in trained.stderr
