"""What the views of a recipe say of its training: what it is watched for, and in which radius."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from paradise_cli.core.yaml import KeyPath
from paradise_cli.recipe.components import Component

# What a recipe is checked by asks here, too.
if TYPE_CHECKING:
    from paradise_cli.recipe.schema import Recipe


def samplers(view: Component, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Component]]:
    """The samplers that draw a view, each with where it stands: those of a composition by
    themselves.
    """
    if not view.parts:
        yield path, view
    for name in view.parts:
        for index, part in enumerate(getattr(view, name)):
            yield from samplers(part, (*path, name, index))


def root(recipe: "Recipe", number: int) -> int | None:
    """The number of the view that shows the pixels of this one first; None: the image does."""
    while number < len(recipe.views) and _unchanged(recipe.views[number]):
        around = recipe.views[number].around
        # Around none that was drawn before, which is a mistake of its own.
        if around is not None and around >= number:
            break
        if around is None:
            return None
        number = around
    return number


def _unchanged(view: Component) -> bool:
    return all(part.name == "image" for _, part in samplers(view))


def watches(recipe: "Recipe") -> bool:
    """Whether a training is about more than the images as they are, and is watched for it."""
    return not only_images(recipe) or recipe.train.validate is not None


def only_images(recipe: "Recipe") -> bool:
    """Whether the model sees the images as they are, and nothing else."""
    return all(_unchanged(view) for view in recipe.views)


def watched_radius(recipe: "Recipe") -> float | None:
    """The L-infinity radius in which the recipe wants its model robust; None: it names none."""
    if recipe.train.validate is not None:
        return recipe.train.validate.attack.eps
    radii: list[float] = []
    for view in recipe.views:
        parts = [part.hyper["eps"] for _, part in samplers(view) if "eps" in part.hyper]
        # Each part starts from where the one before, or the view that it lies around, may have
        # gone. More than 1 is no change of an image in [0, 1].
        around = 0.0 if view.around is None else radii[view.around]
        radii.append(min(around + sum(parts), 1.0))
    return max(radii, default=0.0) or None


def matches_at_random(recipe: "Recipe") -> bool:
    """Whether the posteriors of two views are matched that no search has found."""
    matching = recipe.objective.matching
    if matching is None or matching.of != "posterior":
        return False
    matched = [
        part.name for number in matching.between for _, part in samplers(recipe.views[number])
    ]
    return "adversarial" not in matched
