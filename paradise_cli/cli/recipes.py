"""`paradise recipes ls | show | check`."""

import json
from typing import Annotated, Any

import typer

from paradise_cli.cli.entry import App
from paradise_cli.cli.options import JsonOption, OverridesOption, RecipeArgument, complete_recipe

app = App(no_args_is_help=True, help="List, show and check recipes.")


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """The shipped recipes, one a line."""
    from paradise_cli.recipe.files import read_header, shipped_recipes

    rows = [
        {"name": name, "path": str(path), **read_header(path)}
        for name, path in shipped_recipes().items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    # Plain lines, for grep and cut.
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        typer.echo(f"{row['name']:<{width}}  {row['shows']}")


@app.command()
def show(
    name: RecipeArgument,
    overrides: OverridesOption = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every default filled in.")] = False,
) -> None:
    """A recipe's text, to read or to start an own one from."""
    from paradise_cli.recipe.files import find_recipe, read_text

    path, _ = find_recipe(name)
    # The text with its comments, but where values are asked for that the text does not hold.
    if resolved or overrides:
        from paradise_cli.core.yaml import dump
        from paradise_cli.recipe.schema import load_recipe

        typer.echo(dump(load_recipe(name, overrides or ()).recipe.resolved()), nl=False)
    else:
        typer.echo(read_text(path), nl=False)


@app.command()
def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Recipe files, or names of shipped recipes.", autocompletion=complete_recipe
        ),
    ],
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check recipes against the schema; every mistake is listed, and no data is touched."""
    from paradise_cli.core.errors import ParadiseError, Refused, UsageError
    from paradise_cli.recipe.check import RecipeError
    from paradise_cli.recipe.schema import load_recipe
    from paradise_cli.runs.memory import check_memory

    # Every file is checked: one mistake at a time is one run too many.
    results: list[dict[str, Any]] = []
    messages: list[str] = []
    for path in paths:
        problems: list[dict[str, str]] = []
        try:
            recipe = load_recipe(path, overrides or ()).recipe
            check_memory(recipe)
        except RecipeError as error:
            problems = [
                {"at": p.place.text, "key": p.path, "problem": p.text} for p in error.problems
            ]
            messages.append(str(error))
        except Refused as error:
            problems = [{"at": path, "key": "", "problem": str(error)}]
            messages.append(f"{path}: {error}")
        # No such file, say: the other files are checked all the same.
        except ParadiseError as error:
            problems = [{"at": path, "key": "", "problem": str(error)}]
            messages.append(str(error))
        results.append({"recipe": path, "problems": problems})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            typer.echo(f"{result['recipe']}: {'wrong' if result['problems'] else 'ok'}")
    # Last, so that the list of what is right has been printed.
    if messages:
        raise UsageError("\n".join(messages))
