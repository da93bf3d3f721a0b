"""What the views of a recipe say of its training: what it is watched for, and in which radius."""

from typing import TYPE_CHECKING

# What a recipe is checked by asks here, too.
if TYPE_CHECKING:
    from paradise_cli.recipe.schema import Recipe


def watches(recipe: "Recipe") -> bool:
    """Whether a training is about more than the images as they are, and is watched for it."""
    return not only_images(recipe) or recipe.train.validate is not None


def only_images(recipe: "Recipe") -> bool:
    """Whether the model sees the images as they are, and nothing else."""
    return all(view.name == "image" for view in recipe.views)


def watched_radius(recipe: "Recipe") -> float | None:
    """The L-infinity radius in which the recipe wants its model robust; None: it names none."""
    if recipe.train.validate is not None:
        return recipe.train.validate.attack.eps
    radii = [view.hyper["eps"] for view in recipe.views if "eps" in view.hyper]
    return max(radii, default=None)


def matches_at_random(recipe: "Recipe") -> bool:
    """Whether the posteriors of two views are matched that no search has found."""
    matching = recipe.objective.matching
    if matching is None or matching.of != "posterior":
        return False
    return all(recipe.views[number].name != "adversarial" for number in matching.between)
