"""The only place that turns a recipe into objects."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.optim import Optimizer

from paradise_cli.core.errors import ParadiseError, Refused, UsageError, component
from paradise_cli.core.machine import choose_precision, fast_layout
from paradise_cli.core.randomness import generator, seed_of
from paradise_cli.core.registry import did_you_mean
from paradise_cli.data import (
    AUGMENTATIONS,
    DATASETS,
    Augmentation,
    Batch,
    DataBundle,
    DataInfo,
    check_root,
    hold_out,
    info_of,
    keep_labels,
)
from paradise_cli.data.split_folders import split_folders
from paradise_cli.information.distances import DISTANCES
from paradise_cli.models import BACKBONES, HEADS, HEADS_OF, Head, StochasticEncoder
from paradise_cli.models.base import Shape, is_frozen
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.objective.linearity import Linearity
from paradise_cli.objective.matching import Matching
from paradise_cli.objective.objective import Objective, Task
from paradise_cli.objective.rates import RATES
from paradise_cli.perturbations import SAMPLERS, Sampler
from paradise_cli.recipe.schema import Recipe
from paradise_cli.recipe.schema import Task as TaskSpec
from paradise_cli.recipe.tasks import named_tasks
from paradise_cli.recipe.views import only_images
from paradise_cli.training.average import Average
from paradise_cli.training.optim import OPTIMIZERS, SCHEDULES
from paradise_cli.training.step import Plan, View, draw_views, epochs_for, steps_per_epoch

M = TypeVar("M", bound=nn.Module)

_PASSING = 1_000  # parameters that a frozen backbone has while it is built, and then gives up
_TRIED = 4  # random images on which samplers are tried before data are read


def build_info(recipe: Recipe) -> DataInfo:
    """What the recipe's data look like, before any pixel is read."""
    return info_of(recipe.data.name, recipe.data.root, **recipe.data.hyper)


def build_data(recipe: Recipe) -> DataBundle:
    """The recipe's data, with its validation split and only the labels it may see."""
    data = recipe.data
    check_root(data.name, data.root)
    bundle = DATASETS[data.name](data.root, **data.hyper)
    # Not the training's seed: runs of several seeds are then compared on the same images.
    bundle = hold_out(bundle, data.validation, seed=0)
    return bundle if data.labelled is None else keep_labels(bundle, data.labelled, seed=0)


def listed_folders(recipe: Recipe) -> list[str]:
    """The folders of the recipe's data below which every image is taken, whatever it is."""
    name, root = recipe.data.name, recipe.data.root
    if root is None or not root.is_dir() or name not in ("image_folder", "instances"):
        return []
    return [str(root / part) for part in (split_folders(root) if name == "image_folder" else [""])]


def build_model(recipe: Recipe, info: DataInfo) -> StochasticEncoder:
    """The recipe's encoder with freshly drawn weights, a function of the recipe's seed alone."""
    spec = recipe.model
    # Layers draw their weights from the global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.train.seed, "weights"))
        with component("model.backbone"):
            backbone = BACKBONES[spec.backbone.name](info.shape, **spec.backbone.hyper)
        # Behind a frozen backbone its features are what is reproduced.
        shape = (backbone.out_features, 1, 1) if is_frozen(backbone) else info.shape
        heads = {}
        for number, (name, task) in enumerate(named_tasks(recipe).items()):
            target = _target(info, task)
            with component(f"objective.tasks.{number}"):
                heads[name] = _head(recipe, info, task, target, shape)
        return StochasticEncoder(
            backbone,
            heads,
            latent_dim=spec.latent_dim,
            in_shape=info.shape,
            mean=spec.mean,
            std=spec.std,
            stochastic=spec.stochastic,
            covariance=spec.covariance,
            sigma_shift=spec.sigma_shift,
            sigma_floor=spec.sigma_floor,
        )


def build_outline(
    build: Callable[[Recipe, DataInfo], M], recipe: Recipe, info: DataInfo, most: int
) -> M | None:
    """What `build` makes of the recipe, without memory for its weights: names and shapes alone.

    Raises ParadiseError where it has more than `most` parameters or cannot be built. None where a
    component that the recipe imports cannot do without numbers.
    """
    names = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal names
        names += 1
        # While it is built: a depth of a million layers would take hours and the memory.
        if names > most + _PASSING:
            raise ParadiseError(f"the recipe's network has more than {most} parameters")

    counting = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return build(recipe, info)
    except ParadiseError:
        raise
    # Torch refuses sizes beyond its integers in many ways.
    except Exception as error:
        if recipe.imports:
            return None
        text = str(error).partition("\n")[0]
        raise ParadiseError(f"the recipe's network cannot be built: {text}") from error
    finally:
        counting.remove()


def build_objective(recipe: Recipe, info: DataInfo) -> Objective:
    """The recipe's D + alpha R; a deterministic encoder has no rate."""
    tasks = []
    for name, spec in named_tasks(recipe).items():
        distortion = DISTORTIONS[spec.distortion.name](**spec.distortion.hyper)
        seen = None if spec.views is None else tuple(spec.views)
        tasks.append(Task(name, distortion, _target(info, spec), spec.weight, seen))
    objective, q = recipe.objective, None
    # Without noise the posteriors have no density, and their information is infinite.
    if recipe.model.stochastic:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(recipe.train.seed, "rate"))
            with component("objective.rate"):
                q = RATES[objective.rate.q](recipe.model.latent_dim, info, **objective.rate.hyper)
        if recipe.train.accumulate > 1 and not q.separable:
            raise Refused(
                f"train.accumulate: the rate of q: {objective.rate.q} is of the whole batch, which"
                " parts do not add up to: use 1, or q: fixed or vamp"
            )
    linearity = objective.linearity
    return Objective(
        tasks,
        q,
        objective.alpha,
        objective.lagrangian,
        matching=_matching(recipe),
        linearity=None if linearity is None else Linearity(**dict(linearity)),
    )


def _matching(recipe: Recipe) -> Matching | None:
    spec = recipe.objective.matching
    if spec is None:
        return None
    return Matching(
        between=spec.between,
        distance=DISTANCES[spec.distance.name](**spec.distance.hyper),
        gamma=spec.gamma,
        warmup_steps=spec.warmup_steps,
        other=spec.partner == "other",
    )


def build_augmentations(recipe: Recipe) -> list[Augmentation]:
    """What changes the recipe's training images."""
    return [AUGMENTATIONS[each.name](**each.hyper) for each in recipe.data.augment]


def build_views(recipe: Recipe) -> list[View]:
    """How the recipe's views are drawn."""
    return [View(SAMPLERS[view.name](**view.hyper), view.around) for view in recipe.views]


def check_views(recipe: Recipe, info: DataInfo) -> None:
    """Augment a few random images, and draw each view of them.

    Raises UsageError for what the data do not allow, and views that are no images in [0, 1].
    """
    for number, each in enumerate(recipe.data.augment):
        blank, key = torch.zeros(1, *info.shape), torch.zeros(1, dtype=torch.int64)
        try:
            AUGMENTATIONS[each.name](**each.hyper)(blank, key)
        except UsageError as error:
            raise UsageError(f"data.augment.{number}: {error}") from error
    if only_images(recipe):
        return
    if not info.pictures:
        named = ", ".join(view.name for view in recipe.views if view.name != "image")
        raise UsageError(
            f"views: {named} changes pixels in [0, 1], and {info.label} holds no pictures; use"
            " views: [image]"
        )
    model = build_model(recipe, info)
    images = torch.rand(_TRIED, *info.shape, generator=generator(0, "views"))
    labels = torch.zeros(_TRIED, len(info.targets), dtype=torch.int64)
    batch = Batch(images, labels, torch.arange(_TRIED))
    task = build_objective(recipe, info).judged
    drawn = draw_views(build_views(recipe), model, task, batch, 0)
    for number, (spec, view) in enumerate(zip(recipe.views, drawn, strict=True)):
        if view.shape != images.shape:
            shape = f"{list(view.shape[1:])} instead of {list(images.shape[1:])}"
            raise UsageError(f"views.{number}: {spec.name} gives images of another shape, {shape}")
        low, high = float(view.min()), float(view.max())
        # Written so that NaN, which compares as nothing, is refused.
        if not (low >= 0 and high <= 1):
            raise UsageError(
                f"views.{number}: {spec.name} gives pixels from {low:.3g} to {high:.3g}; a view"
                " must stay in [0, 1]: let the sampler end with clamp(0, 1)"
            )


def build_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], q: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The recipe's optimiser over the encoder's parameters and those of a learned q."""
    groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    # Weight decay would pull q towards a place of its own, away from the aggregate posterior.
    if learned := list(q):
        groups.append({"params": learned, "weight_decay": 0.0})
    return OPTIMIZERS[recipe.optim.name](groups, **recipe.optim.hyper)


def build_plan(recipe: Recipe, model: nn.Module, device: torch.device) -> Plan:
    """How the recipe's training runs on this device."""
    train, optim = recipe.train, recipe.optim
    precision = choose_precision(train.precision, device)
    # After the precision, on which it depends which layout is fast.
    fast = fast_layout(device, precision, model) == torch.channels_last
    return Plan(
        epochs=train.epochs,
        batch_size=train.batch_size,
        seed=train.seed,
        schedule=SCHEDULES[optim.schedule.name](**optim.schedule.hyper),
        # Behind a frozen backbone they are in the features that are kept.
        augment=[] if recipe.model.backbone.name == "frozen" else build_augmentations(recipe),
        precision=precision,
        channels_last=fast if train.channels_last == "auto" else train.channels_last,
        compile=train.compile,
        views=build_views(recipe),
        clip=optim.clip,
        accumulate=train.accumulate,
        checkpoint_seconds=60 * train.checkpoint_minutes,
        min_steps=train.min_steps,
    )


def epochs_of(recipe: Recipe, images: int) -> int:
    """How many epochs a training on so many images takes."""
    train = recipe.train
    return epochs_for(train.epochs, train.min_steps, steps_per_epoch(images, train.batch_size))


def build_average(recipe: Recipe, model: StochasticEncoder, images: int) -> Average | None:
    """The average of the model's weights that the recipe asks for, for so many training images."""
    train = recipe.train
    if train.average is None:
        return None
    steps = epochs_of(recipe, images) * steps_per_epoch(images, train.batch_size)
    return Average(model, train.average.share * steps)


def build_attack(recipe: Recipe) -> tuple[Sampler, int] | None:
    """What validation images are attacked by after each epoch, and how many of them, if any."""
    chosen = recipe.train.validate
    if chosen is None:
        return None
    attack = chosen.attack
    # The margin, since it does not saturate where cross-entropy does; the start is random.
    sampler = SAMPLERS["adversarial"](eps=attack.eps, steps=attack.steps, loss="margin")
    return sampler, chosen.images


def check_validation(recipe: Recipe, info: DataInfo) -> None:
    """Raise UsageError for data whose validation images cannot be attacked as the recipe wants."""
    if recipe.train.validate is None:
        return
    if not info.pictures:
        raise UsageError(
            f"train.validate: an attack changes pixels in [0, 1], and {info.label} holds no"
            " pictures; use null"
        )
    if recipe.data.validation == 0 and not info.own_validation:
        raise UsageError(
            f"train.validate attacks validation images, and of {info.label} none are held out; set"
            " data.validation to a share such as 0.1"
        )


def settled(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with what it leaves to the machine as the plan decided it."""
    return recipe.with_train(precision=plan.precision, channels_last=plan.channels_last)


def head_classes(recipe: Recipe, info: DataInfo) -> dict[str, tuple[str, ...]]:
    """Class names of each classification head, by the name of its task."""
    supervised = {
        name: task
        for name, task in named_tasks(recipe).items()
        if DISTORTIONS[task.distortion.name](**task.distortion.hyper).supervised
    }
    return {name: info.targets[_target(info, task)].classes for name, task in supervised.items()}


def _target(info: DataInfo, task: TaskSpec) -> int:
    """The label column that a task reads; raises UsageError where the data have no such column."""
    names = [target.name for target in info.targets]
    # A decoder reads no label: any column will do.
    if not DISTORTIONS[task.distortion.name](**task.distortion.hyper).supervised:
        return 0
    if not names:
        raise UsageError(
            f"{task.distortion.name} needs labels, and {info.label} has none: put images in folders"
            " of two classes or more, or learn without labels: of photos by the recipe"
            " photos_unlabelled, else by a distortion such as squared_error"
        )
    if task.target is not None and task.target not in names:
        hint = did_you_mean(task.target, names)
        raise UsageError(
            f"{info.label} has no target '{task.target}'{hint}; known: {', '.join(names)}"
        )
    return names.index(task.target) if task.target else 0


def _head(recipe: Recipe, info: DataInfo, task: TaskSpec, target: int, shape: Shape) -> Head:
    # Decoders need no classes, and data without labels have none: torch warns of a layer to none.
    classes = len(info.targets[target].classes) if info.targets else 1
    head = HEADS[task.head.name](recipe.model.latent_dim, classes, shape, **task.head.hyper)
    wanted = DISTORTIONS[task.distortion.name](**task.distortion.hyper).reads
    if head.kind != wanted:
        raise UsageError(
            f"distortion {task.distortion.name} cannot read head {task.head.name}; use"
            f" {HEADS_OF[wanted]}"
        )
    return head
