"""What a trained model is worth on a split: accuracy, calibration, distortion and exact rate."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from paradise_cli.build import build_objective, epochs_of
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import describe, fast_layout
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.core.shares import ALONE, Processes
from paradise_cli.core.units import counted, significant
from paradise_cli.data.base import DataInfo, Split, batches
from paradise_cli.evaluation.cautions import collapse_caution
from paradise_cli.evaluation.evaluation_data import EvaluationData
from paradise_cli.evaluation.metrics import Classification, Distortion, TaskScores
from paradise_cli.evaluation.passes import Progress, one_pass
from paradise_cli.inference.batches import DIVERGED
from paradise_cli.inference.features import behind_backbone, featured
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.information.latents import Latents, latents
from paradise_cli.information.rate import drawn_rates
from paradise_cli.information.rate_interval import FEWEST, RateInterval, rate_interval
from paradise_cli.models import StochasticEncoder
from paradise_cli.objective.rates import Rate
from paradise_cli.recipe.schema import Recipe
from paradise_cli.training.step import batch_of, steps_per_epoch

NO_RATE = (
    "not defined: the encoder is deterministic (z = mu), its information about distinct"
    " images is infinite"
)
LEARNED_Q = (
    "not measured: q was learned in training and is not saved with the weights; see metrics.jsonl"
)
SAME = (
    "all images are one and the same: what z carries of an image, and accuracy, cannot be told from"
    " them; measure different images"
)
_COMPARED = 64  # images at once

Bar: TypeAlias = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far so many items are, under a label; see `cli.progress.progress_bar`."""

T = TypeVar("T")


@contextmanager
def silent(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A `Bar` that shows nothing."""
    yield lambda items: None


@dataclass(frozen=True)
class TrainingRate:
    """The rate as training estimates it, with q made from these images.

    In expectation it is a `bound` of the `estimand`. I_B is the information between z and which
    image of its batch was encoded.
    """

    q: str
    nats: float
    bound: Literal["lower", "upper"]
    estimand: Literal["I_N", "I_B"]
    cap: float | None


@dataclass(frozen=True)
class Evaluation:
    """All measurements of one model on one split; rates and cross-entropies in nats.

    `rate` is None, with the reason in `rate_note`, where the rate is not defined; so is
    `training_rate` where it cannot be measured. `warnings` say why the numbers should be doubted.
    """

    data: str
    n: int
    unlabelled: int
    classification: tuple[Classification, ...]
    distortion: tuple[Distortion, ...]
    rate: RateInterval | None
    rate_note: str | None
    training_rate: TrainingRate | None
    training_rate_note: str | None
    latents: Latents
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        parts = [f"{each.task} {each.top1.value:.1%} right" for each in self.classification]
        parts += [f"{each.task} D {each.sampled:.4g} {each.unit}" for each in self.distortion]
        parts.append("no rate" if self.rate is None else f"rate {self.rate.population}")
        return f"Evaluation({self.data}, n = {self.n:,}: {', '.join(parts)})"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; rates also in bits."""
        return asdict(self) | {"rate": self.rate and self.rate.to_json()}

    def title(self, recipe: Recipe) -> str:
        """Data, n, alpha, rate and accuracy, or distortion, in one line for a figure."""
        # One number of what was kept and one of what it cost, with what they depend on.
        parts = [f"{self.data}, n = {self.n:,}", f"alpha = {recipe.objective.alpha:g}"]
        if self.rate is not None:
            parts.append(f"rate {self.rate.population}")
        if self.classification:
            parts.append(f"accuracy {self.classification[0].top1.value:.1%}")
        elif self.distortion:
            first = self.distortion[0]
            parts.append(f"distortion {significant(first.mean)} {first.unit}")
        return " · ".join(parts)


@dataclass(frozen=True)
class Measurement:
    """An evaluation, and the posteriors and the tasks' scores that it was taken from.

    `rates` are [draws, N] in nats, None where the rate is not defined.
    """

    evaluation: Evaluation
    posterior: Gaussian
    scores: tuple[TaskScores, ...]
    rates: Tensor | None


def measure(
    model: StochasticEncoder,
    recipe: Recipe,
    info: DataInfo,
    split: Split,
    *,
    device: torch.device,
    data: str | None = None,
    seed: int = 0,
    draws: int = 1,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Measurement:
    """Measure a model, made by `recipe` for data like `info`, on a split of such data.

    Its labels follow `info.targets`. In fp32; numbers do not depend on how the split is batched or
    read, and the noise is a function of the seed. `draws` is how many z the exact rate draws for
    each image. `progress` gets the number of images passed through the model since its last call,
    then of rows of the exact rate (N and draws * N in all). Several `processes` share the work, and
    all find the same. Raises ParadiseError for a model whose outputs are not finite.
    """
    split = featured(split, model.to(device), info)
    model, info = behind_backbone(model, info)
    # Always the same layout, as it decides how convolutions round.
    model.to(memory_format=fast_layout(device, "fp32", model))
    objective = build_objective(recipe, info).to(device)
    scores = tuple(TaskScores(task) for task in objective.tasks)
    asked: dict[str, Any] = {"seed": seed, "progress": progress, "processes": processes}
    posterior = one_pass(model, split, device, scores, **asked)
    _require_finite(posterior)
    no_rate = _no_rate(model, len(split))
    rates = None if no_rate else drawn_rates(posterior, draws=draws, **asked)
    rate = None if rates is None else rate_interval(posterior, seed=seed, rates=rates)
    learned = objective.rate is not None and objective.rate.learned
    found = latents(posterior)
    evaluation = Evaluation(
        data=data or info.label,
        n=len(split),
        unlabelled=int((split.labels < 0).all(1).sum()),
        classification=_present(score.classification() for score in scores),
        distortion=_present(score.distortion() for score in scores),
        rate=rate,
        rate_note=no_rate,
        training_rate=_training_rate(objective.rate, recipe, info, posterior, seed),
        training_rate_note=LEARNED_Q if learned else None,
        latents=found,
        warnings=_warnings(recipe, info, scores, found, rate, split),
        settings={"seed": seed, "precision": "fp32", **describe(device)},
    )
    return Measurement(evaluation, posterior, scores, rates)


def measure_loaded(
    loaded: LoadedModel,
    opened: EvaluationData,
    *,
    seed: int = 0,
    draws: int = 1,
    bar: Bar = silent,
    processes: Processes = ALONE,
) -> Measurement:
    """`measure` of a model that was loaded, where it is, on a split that was opened for it."""
    # Each image passes the model once, and each draw of each is a row of the exact rate.
    total = len(opened.split) * (1 + draws if loaded.model.stochastic else 1)
    with bar(total, "evaluating") as advance:
        return measure(
            loaded.model, loaded.recipe, loaded.info, opened.split, device=loaded.device,
            data=opened.label, seed=seed, draws=draws, progress=advance, processes=processes,
        )  # fmt: skip


def _require_finite(posterior: Gaussian) -> None:
    """Raise ParadiseError where every number would be NaN, without a reason."""
    if not bool(posterior.mu.isfinite().all() & posterior.sigma.isfinite().all()):
        raise ParadiseError(DIVERGED)


def _present(values: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(value for value in values if value is not None)


def _warnings(
    recipe: Recipe,
    info: DataInfo,
    scores: Sequence[TaskScores],
    found: Latents,
    rate: RateInterval | None,
    split: Split,
) -> tuple[str, ...]:
    """Why the measurement should be doubted: collapse first, as it explains the rest."""
    nats = None if rate is None else rate.exact.nats
    supervised = [score for score in scores if score.task.distortion.supervised]
    images = info.train_size
    steps = epochs_of(recipe, images) * steps_per_epoch(images, recipe.train.batch_size)
    training = f"train.epochs = {recipe.train.epochs} ({counted(steps, 'step')})"
    # A nat about the image is at most one about each label (data processing).
    of_labels = len(supervised) == len(scores) and recipe.objective.lagrangian == "linear"
    worth = sum(score.task.weight for score in supervised) if of_labels else math.inf
    alpha, matching = recipe.objective.alpha, recipe.objective.matching
    gamma = 0.0 if matching is None else matching.gamma
    collapsed = collapse_caution(found, nats, alpha, training, worth, gamma)
    # A classifier of a collapsed z is at chance: said twice, the cause would be lost. The mean of
    # one image is the only one there is.
    if collapsed and len(split) > 1:
        return (SAME if _all_the_same(split) else collapsed,)
    cautions = []
    for score in supervised:
        # By the name of its task, where it could be another's.
        if caution := score.caution(info.targets[score.task.target].classes):
            task = f"{score.task.name}: " if len(supervised) > 1 else ""
            cautions.append(task + caution)
    return tuple(cautions)


def _all_the_same(split: Split) -> bool:
    """Whether there is one image, over and over; no more is read than up to another one."""
    first = None
    order = torch.arange(len(split))
    for batch in batches(split, order=order, batch_size=_COMPARED, device=torch.device("cpu")):
        first = batch.images[:1] if first is None else first
        if not torch.equal(batch.images, first.expand_as(batch.images)):
            return False
    return True


def _no_rate(model: StochasticEncoder, n: int) -> str | None:
    """Why the rate is not measured, if it is not."""
    if not model.stochastic:
        return NO_RATE
    # Of fewer images the interval has no variance to rest on.
    return None if n >= FEWEST else f"not defined for fewer than {FEWEST} images"


def _training_rate(
    rate: Rate | None, recipe: Recipe, info: DataInfo, posterior: Gaussian, seed: int
) -> TrainingRate | None:
    """The q-step on these images: in the training's batches where q has a cap, else on all."""
    if rate is None or rate.learned:
        return None
    n, latent_dim = posterior.mu.shape
    # A q without a cap is made of all images at once, as training's running moments are.
    batch_size = batch_of(info.train_size, recipe.train.batch_size)
    size = min(batch_size, n) if math.isfinite(rate.cap(n)) else n
    noise = torch.randn(n, latent_dim, generator=generator(seed, "training rate")).to(
        posterior.mu.device
    )
    z = posterior.rsample(noise)
    values = []
    with torch.no_grad():
        # Whole batches only: the cap, and with it the bias, depends on their size.
        # Shuffled, as in training: folders of classes are sorted, and a batch of one class shows
        # less.
        order = permutation(n, seed, "training rate", "order")[: n - n % size].to(z.device)
        for rows in torch.split(order, size):
            part = posterior.rows(rows)
            values.append(rate.train()(part, z[rows]).rate.double().mean())
    cap = rate.cap(size)
    return TrainingRate(
        q=recipe.objective.rate.q,
        nats=float(torch.stack(values).mean()),
        bound=rate.bound,
        estimand="I_B" if rate.estimand == "I_B" else "I_N",
        cap=cap if math.isfinite(cap) else None,
    )
