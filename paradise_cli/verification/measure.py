"""The numbers of a card, measured on a model's test images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from paradise_cli.attacks.run import Beside, attack_with
from paradise_cli.attacks.session.phase import Pulse
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.evaluation.evaluate import Evaluation, Measurement, measure
from paradise_cli.evaluation.evaluation_data import EvaluationData, split_for
from paradise_cli.evaluation.metrics import Classification, Distortion
from paradise_cli.hub.cards import Attack
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.robustness.examples import open_examples

Name: TypeAlias = Literal["accuracy", "distortion", "rate", "robust accuracy"]
Bar: TypeAlias = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far so many items are, under a label; see `cli.progress.progress_bar`."""


@contextmanager
def silent(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A `Bar` that shows nothing."""
    yield lambda items: None


@dataclass(frozen=True)
class Measured:
    """One number with its interval, and what it was measured on; `unit` is "" for shares."""

    name: Name
    value: float
    interval: tuple[float, float]
    unit: str
    data: str
    n: int
    attack: Attack | None = None


def plain_numbers(
    loaded: LoadedModel, overrides: Sequence[str], *, seed: int = 0, bar: Bar = silent
) -> list[Measured]:
    """Accuracy, distortion and rate on the test split, as far as the model has them.

    The accuracy's interval is Wilson's, the distortion's at sampled z that of a normal mean (both
    95%), and the rate's certified (method.md 2). Raises UsageError or ParadiseError for data that
    are not there.
    """
    opened = split_for(loaded, "test", None, overrides)
    return _numbers(measured_on(loaded, opened, seed, bar).evaluation)


def measured_on(loaded: LoadedModel, opened: EvaluationData, seed: int, bar: Bar) -> Measurement:
    """Everything that is measured of a model on a split; errors as of `measure`."""
    # Each image passes the model once, and is a row of the exact rate where there is one.
    total = len(opened.split) * (2 if loaded.model.stochastic else 1)
    with bar(total, "evaluating") as advance:
        return measure(
            loaded.model, loaded.recipe, loaded.info, opened.split, device=loaded.device,
            data=opened.label, seed=seed, progress=advance,
        )  # fmt: skip


def _numbers(found: Evaluation) -> list[Measured]:
    numbers = [_accuracy(each, found.data) for each in found.classification]
    # Of a classifier it is the cross-entropy, which says little that its accuracy does not.
    supervised = {each.task for each in found.classification}
    numbers += [
        _mean_distortion(each, found.data)
        for each in found.distortion
        if each.task not in supervised
    ]
    if found.rate is not None:
        ends = found.rate.population
        # The lower end: that much the model is sure to carry.
        interval = ends.lower, ends.upper
        numbers.append(Measured("rate", ends.lower, interval, "nats", found.data, found.n))
    return numbers


def _accuracy(found: Classification, data: str) -> Measured:
    share = found.top1
    return Measured("accuracy", share.value, (share.low, share.high), "", data, found.n)


def _mean_distortion(found: Distortion, data: str) -> Measured:
    half = NORMAL_95 * (found.sampled_error or 0.0)
    interval = found.sampled - half, found.sampled + half
    return Measured("distortion", found.sampled, interval, found.unit, data, found.n)


def robust_number(
    weights: Path,
    settings: AttackSettings,
    overrides: Sequence[str],
    *,
    n: int,
    device: str = "auto",
    out: Path | None = None,
    pulse: Pulse | None = None,
) -> Measured:
    """Accuracy under attack on n of the test images, with Wilson's interval and the verdict.

    The images are those of `paradise attack --n`. Raises UsageError or ParadiseError for a model
    that does not classify and for data that are not there.
    """
    target = open_classifier(str(weights), device=device)
    examples = open_examples(target, n=n, overrides=overrides)
    report = attack_with(
        settings, target.function, examples.images, examples.labels,
        beside=Beside(pulse=pulse), out=out, device=device,
    )  # fmt: skip
    share: Proportion = report.robust_accuracy
    words = {"norm": settings.norm, "verdict": report.verdict}
    attack = Attack.model_validate({"suite": settings.suite, "eps": settings.eps, **words})
    interval = share.low, share.high
    return Measured(
        "robust accuracy", share.value, interval, "", examples.label, len(report.rows), attack
    )
