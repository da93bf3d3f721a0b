"""Measures again what a card says of a model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from paradise_cli.attacks.session.phase import Pulse
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.core.errors import ParadiseError
from paradise_cli.evaluation.evaluate import Bar, silent
from paradise_cli.hub.cards import Metric
from paradise_cli.hub.pull import card_of
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.verification.measure import Measured, plain_numbers, robust_number

ROUNDING = 1e-3
"""Share of an interval's ends by which another machine may round across them."""
NOT_ASKED = "not attacked again: --attack does that"


@dataclass(frozen=True)
class Check:
    """A metric of a card, and what was found of it; `holds` is None where nothing was measured.

    `reason` says why it does not hold, or why it was not measured.
    """

    metric: Metric
    found: Measured | None
    holds: bool | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        found = self.found
        return {
            "metric": self.metric.model_dump(),
            "found": None if found is None else {"value": found.value, "interval": found.interval},
            "holds": self.holds,
            "reason": self.reason,
        }


def verify(
    name: str,
    overrides: Sequence[str] = (),
    *,
    folders: Mapping[str, str] | None = None,
    attacks: bool = False,
    device: str = "auto",
    bar: Bar = silent,
    pulses: Callable[[], AbstractContextManager[Pulse | None]] = nullcontext,
) -> list[Check]:
    """Each metric of a model's card, measured again on the same images with the same seed.

    The model is one of the zoo, or of a repository that was pulled with its card. A metric holds
    where the new value lies within the card's interval. `folders` say by the label of the images
    that a metric was measured on where they lie here. Robust accuracies are measured only with
    `attacks`: they take as long as they took. Raises UsageError or ParadiseError for a name without
    a card, a model that is not on this machine, and data that are not.
    """
    card = card_of(name)
    metrics = card.metrics
    loaded = load(name, device)

    def there(label: str) -> list[str]:
        return [*_lying_in((folders or {}).get(label), label, loaded, overrides), *overrides]

    plain = {(each.seed, each.label) for each in metrics if each.attack is None}
    found = {
        (seed, label): plain_numbers(loaded, there(label), seed=seed, bar=bar)
        for seed, label in sorted(plain)
    }
    checks = []
    for metric in metrics:
        if metric.attack is None:
            measured = found[metric.seed, metric.label]
            checks.append(_check(metric, [each for each in measured if _is(each, metric)]))
        elif attacks:
            with pulses() as pulse:
                again = _attacked(loaded, metric, there(metric.label), device, pulse)
                checks.append(_check(metric, again))
        else:
            checks.append(Check(metric, None, None, NOT_ASKED))
    return checks


def _lying_in(
    folder: str | None, label: str, loaded: LoadedModel, overrides: Sequence[str]
) -> list[str]:
    """Data of the model's kind in a folder, which has their label where it has its own name.

    Raises ParadiseError for those of a folder where neither this one nor `overrides` name it.
    """
    data = loaded.recipe.data
    labelled = "label" in data.hyper
    if folder is not None:
        return [f"data.root={folder}", *([f"data.label={label}"] if labelled else [])]
    named = data.root or any(text.startswith("data.root=") for text in overrides)
    if labelled and not named:
        raise ParadiseError(f"measured on {label}: say where that lies, --data {label}=FOLDER")
    return []


def _attacked(
    loaded: LoadedModel,
    metric: Metric,
    overrides: Sequence[str],
    device: str,
    pulse: Pulse | None,
) -> list[Measured]:
    attack = metric.attack
    assert attack is not None, "only robust accuracies come here"
    if metric.task not in (None, *loaded.model.heads):
        return []
    settings = AttackSettings(
        eps=attack.eps, norm=attack.norm, suite=attack.suite, seed=metric.seed
    )
    again = robust_number(
        loaded.source, settings, overrides, n=metric.n, head=metric.task, device=device,
        pulse=pulse,
    )  # fmt: skip
    return [again]


def _is(found: Measured, metric: Metric) -> bool:
    """Whether a measured number may be that of the metric, which names no task if it is alone."""
    return found.name == metric.name and metric.task in (None, found.task)


def _check(metric: Metric, measured: Sequence[Measured]) -> Check:
    """Whether the one new number that may be a card's agrees with it."""
    if not measured:
        return Check(metric, None, False, "this model has no such number on these images")
    if len(measured) > 1:
        tasks = ", ".join(str(each.task) for each in measured)
        return Check(metric, None, False, f"the card must say of which task this is: {tasks}")
    (found,) = measured
    if (found.data, found.n) != (metric.data, metric.n):
        other = f"measured on {found.data}, n = {found.n:,}: other images than the card's"
        return Check(metric, found, False, other)
    low, high = metric.interval
    inside = low - ROUNDING * abs(low) <= found.value <= high + ROUNDING * abs(high)
    return Check(metric, found, inside, "" if inside else "outside the card's interval")
