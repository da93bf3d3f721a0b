"""Options that mean the same in every command."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from paradise_cli.core.results import check_suffix


def written(
    *kinds: str, chooses: bool = False, or_folder: bool = False
) -> Callable[..., Path | None]:
    """The callback of an option that names an output: `check_suffix`, before anything is loaded."""

    def check(param: typer.CallbackParam, value: Path | None) -> Path | None:
        if value is not None:
            check_suffix(value, kinds, param.opts[0], chooses=chooses, or_folder=or_folder)
        return value

    return check


def complete_recipe(incomplete: str) -> list[str]:
    """What a shell offers for a recipe: loaded when asked, and without torch."""
    from paradise_cli.recipe import files

    return files.complete_recipe(incomplete)


# The help and the completion of an option stand here once, for every command that has it.
RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a shipped recipe.", autocompletion=complete_recipe
    ),
]
# One place for each, so that a command cannot give --seed or --device a meaning of its own.

OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[int, typer.Option(help="Of the noise in z.")]
OutOption = Annotated[
    Path | None,
    typer.Option(callback=written(".json"), help="Also write the JSON document to this file."),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace another result at --out; the same one always is."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
