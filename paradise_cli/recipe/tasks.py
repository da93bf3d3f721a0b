"""The tasks of a recipe by name."""

from paradise_cli.recipe.schema import Recipe, Task


def named_tasks(recipe: Recipe) -> dict[str, Task]:
    """The recipe's tasks by name, else by target or distortion, numbered where one repeats."""
    # Each needs a name of its own: it is the name of its head and of its numbers.
    named: dict[str, Task] = {}
    for task in recipe.objective.tasks:
        base = task.name or task.target or task.distortion.name
        name = base
        number = 2
        while name in named:
            name = f"{base}_{number}"
            number += 1
        named[name] = task
    return named
