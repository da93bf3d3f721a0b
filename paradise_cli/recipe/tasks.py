"""The tasks of a recipe by name."""

from paradise_cli.recipe.schema import Recipe, Task


def named_tasks(recipe: Recipe) -> dict[str, Task]:
    """The recipe's tasks by name, else by target or distortion, numbered where one repeats."""
    named: dict[str, Task] = {}
    # Each needs a name of its own, that of its head and of its numbers: what somebody has written
    # is nobody else's.
    taken = {task.name for task in recipe.objective.tasks}
    for task in recipe.objective.tasks:
        base = name = task.target or task.distortion.name
        number = 2
        while name in taken:
            name = f"{base}_{number}"
            number += 1
        named[task.name or name] = task
        taken.add(task.name or name)
    return named
