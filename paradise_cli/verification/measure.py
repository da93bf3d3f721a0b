"""The numbers of a card, measured on a model's test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paradise_cli.attacks.run import Beside, attack_with
from paradise_cli.attacks.session.phase import Pulse
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.evaluation.evaluate import Bar, Evaluation, measure_loaded, silent
from paradise_cli.evaluation.evaluation_data import split_for
from paradise_cli.evaluation.metrics import Classification, Distortion
from paradise_cli.hub.cards import Attack, MetricName
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.robustness.examples import open_examples


@dataclass(frozen=True)
class Measured:
    """One number with its interval, and what it was measured on; `unit` is "" for shares, `task`
    None for a rate.
    """

    name: MetricName
    value: float
    interval: tuple[float, float]
    unit: str
    data: str
    n: int
    task: str | None = None
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
    return _numbers(measure_loaded(loaded, opened, seed=seed, bar=bar).evaluation)


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
    return Measured("accuracy", share.value, (share.low, share.high), "", data, found.n, found.task)


def _mean_distortion(found: Distortion, data: str) -> Measured:
    half = NORMAL_95 * (found.sampled_error or 0.0)
    interval = found.sampled - half, found.sampled + half
    return Measured("distortion", found.sampled, interval, found.unit, data, found.n, found.task)


def robust_number(
    weights: Path,
    settings: AttackSettings,
    overrides: Sequence[str],
    *,
    n: int,
    head: str | None = None,
    device: str = "auto",
    out: Path | None = None,
    pulse: Pulse | None = None,
) -> Measured:
    """Accuracy under attack on n of the test images, with Wilson's interval and the verdict.

    The images are those of `paradise attack --n`. Raises UsageError or ParadiseError for a model
    that does not classify, or by several heads where none is named, and for data that are not
    there.
    """
    target = open_classifier(str(weights), device=device, head=head)
    examples = open_examples(target, n=n, overrides=overrides)
    report = attack_with(
        settings, target.function, examples.images, examples.labels,
        beside=Beside(pulse=pulse), out=out, device=device,
    )  # fmt: skip
    share: Proportion = report.robust_accuracy
    words = {"norm": settings.norm, "verdict": report.verdict}
    attack = Attack.model_validate({"suite": settings.suite, "eps": settings.eps, **words})
    interval = share.low, share.high
    n = len(report.rows)
    return Measured(
        "robust accuracy", share.value, interval, "", examples.label, n, target.head, attack
    )
