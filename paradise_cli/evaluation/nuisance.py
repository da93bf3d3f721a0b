"""What changes that mean nothing do to a model: answers that flip, posteriors that shift."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.core.units import counted
from paradise_cli.data.base import Batch, DataInfo, Split
from paradise_cli.evaluation.evaluate import Measurement
from paradise_cli.evaluation.metrics import TaskScores
from paradise_cli.evaluation.passes import Progress, one_pass
from paradise_cli.information.distances import DISTANCES
from paradise_cli.information.latents import Latents
from paradise_cli.information.rate_interval import student
from paradise_cli.models import StochasticEncoder
from paradise_cli.objective.objective import Task
from paradise_cli.perturbations import SAMPLERS
from paradise_cli.perturbations.threat import radius_text
from paradise_cli.training.step import View, draw_views

Settings = Mapping[str, float]

FEWEST = 10  # images, whose deviation is known to a quarter
DISTANCE = "l1"  # the paper's, by which posteriors are matched in training
# Weak is hardly seen. Strong is seen at once, and still no reason for another answer.
STRENGTHS: dict[str, tuple[Settings, Settings, Settings]] = {
    "corner": ({"eps": 4 / 255}, {"eps": 8 / 255}, {"eps": 16 / 255}),
    "uniform": ({"eps": 4 / 255}, {"eps": 8 / 255}, {"eps": 16 / 255}),
    "gaussian": ({"sigma": 0.02}, {"sigma": 0.05}, {"sigma": 0.1}),
    "crop": ({"share": 0.95}, {"share": 0.9}, {"share": 0.8}),
    "translation": ({"share": 0.02}, {"share": 0.05}, {"share": 0.1}),
    "rotation": ({"degrees": 5.0}, {"degrees": 10.0}, {"degrees": 20.0}),
    "box_jitter": (
        {"place": 0.02, "size": 0.05},
        {"place": 0.05, "size": 0.1},
        {"place": 0.1, "size": 0.2},
    ),
    "blur": ({"sigma": 0.5}, {"sigma": 1.0}, {"sigma": 2.0}),
    "jpeg": ({"quality": 80}, {"quality": 50}, {"quality": 20}),
    "brightness_contrast": (
        {"brightness": 0.05, "contrast": 0.1},
        {"brightness": 0.1, "contrast": 0.2},
        {"brightness": 0.2, "contrast": 0.4},
    ),
}
"""Settings of each sampler that draws at random, from weak to strong."""


@dataclass(frozen=True)
class Mean:
    """A mean over images, with the 95% interval of the population's mean."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """Of values [N]; of a single one the interval has no ends, and value stands for them."""
        # In double: a shift may be a millionth of what it is compared with.
        exact, n = values.double(), len(values)
        mean = float(exact.mean())
        if n < 2:
            return cls(mean, mean, mean)
        # Student's factor: of few images the deviation itself is not known.
        margin = student(NORMAL_95, n) * math.sqrt(float(exact.var()) / n)
        # What is never negative has no mean below 0, whatever a symmetric interval says.
        low = max(mean - margin, 0.0) if float(exact.min()) >= 0 else mean - margin
        return cls(mean, low, mean + margin)


@dataclass(frozen=True)
class NuisanceRow:
    """What one sampler does at one setting.

    `flip_rate` is the share of images whose class at z = mu changes, `accuracy` that of labelled
    images whose class is right under the change; None without classes, or without labels. `shift`
    is the mean distance of p(z|S(x)) from p(z|x), in standard deviations of mu over images.
    """

    sampler: str
    settings: Settings
    flip_rate: Proportion | None
    accuracy: Proportion | None
    shift: Mean

    @property
    def strength(self) -> str:
        """The settings in words: `eps 8/255`."""
        # Of pixels people count in steps of 8-bit images, of all else in plain numbers.
        texts = {
            name: radius_text("linf", value) if name == "eps" else f"{value:g}"
            for name, value in self.settings.items()
        }
        return ", ".join(f"{name} {text}" for name, text in texts.items())


@dataclass(frozen=True)
class Nuisance:
    """A model under every sampler, on n images; `accuracy` is that without any change.

    `task` names the classifier; with several it is the first, None without any. `note` says what is
    missing, and where the shift means little.
    """

    data: str
    n: int
    task: str | None
    accuracy: Proportion | None
    rows: tuple[NuisanceRow, ...]
    note: str | None
    seed: int
    distance: str = f"{DISTANCE}, free of the scale of z"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; of one image the shifts have no interval."""
        found = asdict(self)
        if self.n == 1:
            for row in found["rows"]:
                row["shift"] |= {"low": None, "high": None}
        return found


def check_pictures(info: DataInfo) -> None:
    """Raise UsageError for a model of data that are no pictures."""
    if not info.pictures:
        raise UsageError(
            f"--nuisance changes pictures, and {info.label} holds none: evaluate without it"
        )


def passes() -> int:
    """How often `measure_nuisance` passes each image through the model."""
    return sum(map(len, STRENGTHS.values()))


def measure_nuisance(
    model: StochasticEncoder,
    measured: Measurement,
    split: Split,
    *,
    device: torch.device,
    seed: int = 0,
    progress: Progress | None = None,
) -> Nuisance:
    """Measure a model under every sampler, on the split that it was `measured` on.

    Views are drawn by the code of training, one of each image at each setting, keyed by the seed
    and the image: the numbers do not depend on how the split is batched. `progress` gets the number
    of views passed through the model since its last call.
    """
    scores = next((each for each in measured.scores if each.task.distortion.supervised), None)
    task = None if scores is None else scores.task
    rows = []
    # A pass for each: the posteriors of all views at once would fill the memory.
    for name, settings in _cases():
        found = [] if task is None else [TaskScores(task)]
        # Keyed by the sampler and not by its settings: a stronger view is the same change, further.
        view = _drawn_by(View(SAMPLERS[name](**settings)), model, task, (seed, "nuisance", name))
        posterior = one_pass(model, split, device, found, None, progress, view)
        # Of full posteriors each latent by itself, as distances are of (method.md 2.8).
        sides = measured.posterior.marginals(), posterior.marginals()
        shift = Mean.of(DISTANCES[DISTANCE]().scale_free(*sides))
        flips = accuracy = None
        if scores is not None:
            flips = _flip_rate(scores, found[0])
            accuracy = _accuracy(found[0])
        rows.append(NuisanceRow(name, settings, flips, accuracy, shift))
    accuracy = None if scores is None else _accuracy(scores)
    return Nuisance(
        data=measured.evaluation.data,
        n=len(split),
        task=None if task is None else task.name,
        accuracy=accuracy,
        rows=tuple(rows),
        note=_note(task, accuracy, len(split), measured.evaluation.latents),
        seed=seed,
    )


def _cases() -> Iterator[tuple[str, Settings]]:
    for name, strengths in STRENGTHS.items():
        for settings in strengths:
            yield name, settings


def _drawn_by(
    view: View, model: StochasticEncoder, task: Task | None, key: tuple[int | str, ...]
) -> Callable[[Batch], Tensor]:
    """From a batch to its view, as training draws it."""

    def drawn(batch: Batch) -> Tensor:
        (seen,) = draw_views([view], model, task, batch, *key)
        return seen

    return drawn


def _flip_rate(before: TaskScores, after: TaskScores) -> Proportion:
    """Share of all images, labelled or not, whose predicted class differs."""
    flipped = before.predictions()[0] != after.predictions()[0]
    return Proportion.of(int(flipped.sum()), len(flipped))


def _accuracy(scores: TaskScores) -> Proportion | None:
    """Share of the labelled images classified rightly; None without any."""
    # Not `classification`: its calibration and entropy would be thrown away for each view.
    predicted, labels = scores.predictions()
    known = int((labels >= 0).sum())
    return Proportion.of(int((predicted == labels).sum()), known) if known else None


def _note(task: Task | None, accuracy: Proportion | None, n: int, spread: Latents) -> str | None:
    """Why a column is missing, or the shift says little, if so."""
    notes = []
    if task is None:
        notes.append(
            "this model has no classification head: only shifts of its posteriors are measured"
        )
    elif accuracy is None:
        notes.append("these images have no labels: no accuracy")
    # Else the views themselves are most of what spreads mu, and the shift is measured by itself.
    scale = None
    if n < FEWEST:
        scale = f"{counted(n, 'image')} hardly show{'s' if n == 1 else ''} any"
    elif spread.relative_sigma is None:
        scale = "these images have one and the same mu"
    if scale is not None:
        notes.append(
            f"the shift means little: it is in standard deviations of mu, and {scale}; measure"
            f" {FEWEST} different images or more"
        )
    return "; ".join(notes) or None
