"""What is wrong with a recipe whose fields are each fine alone, but not together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from paradise_cli.core.yaml import KeyPath
from paradise_cli.information.distances import DISTANCES, Distance
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.objective.distortions import DISTORTIONS, Distortion
from paradise_cli.recipe.components import Component
from paradise_cli.recipe.views import only_images, root, samplers

if TYPE_CHECKING:
    from paradise_cli.recipe.schema import Matching, Recipe, Task

MOST_CORRELATED = 64

Conflicts: TypeAlias = Iterator[tuple[KeyPath, str]]
"""Where something stands, and what is wrong with it."""


def conflicts(recipe: "Recipe") -> Conflicts:
    """Everything that does not go together."""
    found = [
        *_in_model(recipe),
        *_in_covariance(recipe),
        *_before_frozen(recipe),
        *_in_tasks(recipe),
        *_in_views(recipe),
        *_in_matching(recipe),
        *_in_linearity(recipe),
        *_in_train(recipe),
        *_in_accumulation(recipe),
    ]
    yield from found
    # A number that was mistyped leaves a view unused: one mistake should not be told twice.
    if not found:
        yield from _unused_views(recipe)


def _in_model(recipe: "Recipe") -> Conflicts:
    mean, std = recipe.model.mean, recipe.model.std
    # Centred but not scaled pixels are hardly ever meant.
    if (mean is None) != (std is None):
        yield (
            ("model", "mean" if std is None else "std"),
            "model.mean and model.std go together: give both",
        )
    elif mean is not None and std is not None and len(mean) != len(std):
        yield ("model", "std"), f"has {len(std)} values and model.mean {len(mean)}: one per channel"


def _in_covariance(recipe: "Recipe") -> Conflicts:
    """What needs posteriors whose latents are independent of each other."""
    if recipe.model.covariance == "diagonal":
        return
    path: KeyPath = ("model", "covariance")
    if not recipe.model.stochastic:
        yield path, "full needs model.stochastic: true: without noise there is no covariance"
    if recipe.model.latent_dim > MOST_CORRELATED:
        problem = f"full takes latent_dim^2 numbers an image: at most {MOST_CORRELATED} latents"
        yield path, problem
    if recipe.objective.rate.q == "bank":
        problem = "a bank keeps diagonal posteriors: use batch, fitted or another, or diagonal"
        yield ("objective", "rate", "q"), f"{problem} for model.covariance"
    matching = recipe.objective.matching
    if matching is not None and matching.of == "posterior":
        problem = "distances are of diagonal posteriors: use outputs, or diagonal"
        yield ("objective", "matching", "of"), f"{problem} for model.covariance"


def _before_frozen(recipe: "Recipe") -> Conflicts:
    """What changes pixels, where their features are computed once."""
    if recipe.model.backbone.name != "frozen":
        return
    reason = "the features of a frozen backbone are computed once"
    if recipe.model.mean is not None:
        yield ("model", "mean"), "a frozen backbone normalises by itself: leave it out"
    views = recipe.model.backbone.hyper["views"]
    if recipe.data.augment and views == 1:
        kept = "or let model.backbone.views say how many views of each image are kept"
        yield ("data", "augment"), f"{reason}: leave augmentations out, {kept}"
    if views > 1 and not recipe.data.augment:
        drawn = "such as [{name: crop, pad: 16, mode: reflect}, {name: flip}]"
        problem = f"nothing draws other views: set data.augment, {drawn}"
        yield ("model", "backbone", "views"), problem
    if not only_images(recipe):
        yield ("views",), f"{reason}: use views: [image]"
    if recipe.train.validate is not None:
        yield ("train", "validate"), f"{reason}, and an attack changes pixels: use null"


def _in_tasks(recipe: "Recipe") -> Conflicts:
    objective = recipe.objective
    if objective.alpha > 0 and not recipe.model.stochastic:
        problem = "should be 0 where model.stochastic is false: without noise the rate is infinite"
        yield ("objective", "alpha"), problem
    # A name is a head's and a column's in every table.
    names = [task.name for task in objective.tasks]
    for index, name in enumerate(names):
        path: KeyPath = ("objective", "tasks", index)
        if name is not None and name in names[:index]:
            problem = f"'{name}' is already the name of task {names.index(name)}"
            yield (*path, "name"), problem
        task = objective.tasks[index]
        if task.target is not None and not _distortion(task).supervised:
            problem = f"{task.distortion.name} reads no label: leave it out"
            yield (*path, "target"), problem
        views = objective.tasks[index].views
        yield from _missing_views(recipe, (*path, "views"), views or [])
        if views is not None and len(set(views)) < len(views):
            yield (*path, "views"), f"names a view twice (got {views}): each number once"
        seen = range(len(recipe.views)) if views is None else views
        if _distortion(task).between:
            lies = f"{task.distortion.name} lies between two views"
            if len(set(seen)) != 2:
                yield (*path, "views"), f"{lies}: the recipe must name two"
            elif len({root(recipe, number) for number in seen}) != 2:
                yield (*path, "views"), f"{lies}, and these show the same pixels"


def _in_views(recipe: "Recipe") -> Conflicts:
    for index, view in enumerate(recipe.views):
        path: KeyPath = ("views", index)
        if view.around is not None and view.around >= index:
            allowed = f"allowed: 0 to {index - 1}" if index else "leave it out for the first view"
            problem = f"should be the number of an earlier view (got {view.around}); {allowed}"
            yield (*path, "around"), problem
        for place, part in samplers(view, path):
            if part.name == "adversarial":
                yield from _in_adversarial(recipe, place, part)


def _in_adversarial(recipe: "Recipe", path: KeyPath, part: Component) -> Conflicts:
    loss, distance = part.hyper["loss"], part.hyper["distance"]
    if loss != "posterior" and not _classifies(recipe):
        needed = "a task with labels, such as cross_entropy"
        problem = f"'{loss}' needs {needed}, and this recipe has none; use posterior"
        yield (*path, "loss"), problem
    if loss in ("posterior", "both"):
        yield from _unfit(recipe, (*path, "distance"), distance, DISTANCES[distance](), "posterior")


def _in_matching(recipe: "Recipe") -> Conflicts:
    matching = recipe.objective.matching
    if matching is None:
        return
    path: KeyPath = ("objective", "matching")
    distance = DISTANCES[matching.distance.name](**matching.distance.hyper)
    yield from _missing_views(recipe, (*path, "between"), list(matching.between))
    yield from _unfit(recipe, (*path, "distance"), matching.distance.name, distance, matching.of)
    if matching.of == "outputs" and not _classifies(recipe):
        problem = "outputs are those of a task with labels, and this recipe has none; use posterior"
        yield (*path, "of"), problem
    if matching.partner == "same" and matching.distance.name != "norm":
        one, other = matching.between
        # Of the same pixels, the outputs still differ by the latent noise of each view.
        noisy = matching.of == "outputs" and recipe.model.stochastic
        if one == other:
            yield (*path, "between"), "a view does not differ from itself: name two views"
        elif root(recipe, one) == root(recipe, other) and not noisy:
            problem = f"views {one} and {other} show the same pixels: name two that differ"
            yield (*path, "between"), problem


def _in_linearity(recipe: "Recipe") -> Conflicts:
    linearity = recipe.objective.linearity
    if linearity is None:
        return
    path: KeyPath = ("objective", "linearity")
    yield from _missing_views(recipe, (*path, "between"), list(linearity.between))
    if _distortion(recipe.objective.tasks[0]).between:
        problem = "is of the first task's loss, which has to be a loss of one view"
        yield path, problem
    one, other = linearity.between
    if root(recipe, one) == root(recipe, other):
        yield (*path, "between"), "an image lies on its own tangent: name two views"
    if recipe.train.compile:
        problem = "objective.linearity needs second derivatives, which are not compiled: use false"
        yield ("train", "compile"), problem


def _in_train(recipe: "Recipe") -> Conflicts:
    if recipe.train.validate is not None and not _classifies(recipe):
        problem = "an attack needs a task with labels, and this recipe has none: use null"
        yield ("train", "validate"), problem
    if recipe.train.frontier and not recipe.model.stochastic:
        problem = "without noise there is no rate to trade: leave it out, or model.stochastic: true"
        yield ("train", "frontier"), problem


def _in_accumulation(recipe: "Recipe") -> Conflicts:
    """What a batch's parts do not add up to; of rates `build_objective` says it."""
    parts, batch_size = recipe.train.accumulate, recipe.train.batch_size
    if parts == 1:
        return
    if batch_size % parts:
        problem = f"{parts} parts must divide train.batch_size, {batch_size}"
        yield ("train", "accumulate"), problem
    reason = "which parts of it do not add up to: set train.accumulate to 1"
    objective = recipe.objective
    if recipe.data.labelled is not None:
        yield ("data", "labelled"), f"labels are counted over the whole batch, {reason}"
    if objective.lagrangian == "squared":
        yield ("objective", "lagrangian"), f"the square is of the whole batch's rate, {reason}"
    for index, task in enumerate(objective.tasks):
        if _distortion(task).between:
            problem = f"{task.distortion.name} compares the images of the whole batch, {reason}"
            yield ("objective", "tasks", index, "distortion"), problem
    matching = objective.matching
    if matching is not None and not _matched_alone(matching):
        problem = f"it is taken over the whole batch, {reason}"
        yield ("objective", "matching"), problem


def _matched_alone(matching: "Matching") -> bool:
    """Whether the distance of an image's views is the same whatever else is in its batch."""
    # Asked rather than listed: a distance of the user's own may look at the batch.
    distance = DISTANCES[matching.distance.name](**matching.distance.hyper)
    values = torch.tensor([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])

    def apart(rows: int) -> Tensor:
        one, other = values[:rows], values.flip(0)[:rows]
        if distance.of == "outputs":
            return distance.per_example(one, other)
        sigma = torch.ones_like(one)
        return distance.per_example(DiagonalGaussian(one, sigma), DiagonalGaussian(other, sigma))

    return matching.partner == "same" and bool(apart(3)[0].isclose(apart(1)[0]))


def _unused_views(recipe: "Recipe") -> Conflicts:
    objective, every = recipe.objective, set(range(len(recipe.views)))
    used = {view.around for view in recipe.views}
    for task in objective.tasks:
        used |= every if task.views is None else set(task.views)
    for part in (objective.matching, objective.linearity):
        used |= set(part.between) if part else set()
    for index in sorted(every - used):
        yield ("views", index), "nothing uses this view: name it in a task's views or in matching"


def _missing_views(recipe: "Recipe", path: KeyPath, numbers: list[int]) -> Conflicts:
    count = len(recipe.views)
    missing = sorted({number for number in numbers if number >= count})
    if missing:
        found = "one view, 0" if count == 1 else f"{count} views, 0 to {count - 1}"
        yield path, f"there is no view {' or '.join(map(str, missing))}: the recipe has {found}"


def _unfit(recipe: "Recipe", path: KeyPath, name: str, distance: Distance, of: str) -> Conflicts:
    if distance.of != of:
        known = [each for each in DISTANCES if DISTANCES[each]().of == of]
        yield (
            path,
            f"{name} is a distance of {distance.of}, not of {of}; of {of}: {', '.join(known)}",
        )
        return
    # Asked rather than listed: also a distance of the user's own may need a density.
    points = DiagonalGaussian(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1))
    if of == "posterior" and not recipe.model.stochastic:
        apart = distance.per_example(points, DiagonalGaussian(points.mu + 1, points.sigma))
        if not bool(apart.isfinite().all()):
            problem = f"{name} is infinite where model.stochastic is false; use l1 or wasserstein"
            yield path, problem


def _classifies(recipe: "Recipe") -> bool:
    return any(_distortion(task).supervised for task in recipe.objective.tasks)


def _distortion(task: "Task") -> Distortion:
    return DISTORTIONS[task.distortion.name](**task.distortion.hyper)
