"""What went wrong in a training, and in which epoch, as its records say (method.md 4.6)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]
"""One epoch, as `metrics.jsonl` has it."""

FALLEN = 0.6  # of the best accuracy so far, as the FastAT Benchmark counts overfitting
CLEAR = 0.1  # over three standard errors of a share of 256 images
APART = 0.8  # of its share before: a fifth is four standard errors of a share of 100 images
NEAR, FAR = 0.1, 0.2  # of the distance of unrelated images; a robust network stays below the second
PATIENCE = 3  # epochs in which a training may find its first active latent


@dataclass(frozen=True)
class Alarm:
    """Something that went wrong in a training: its kind, in which epoch, and what to do."""

    kind: str
    epoch: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def alarms(records: Sequence[Record]) -> list[Alarm]:
    """Every alarm of a training, by epoch.

    A function of the records alone: a resumed training raises those of an uninterrupted one.
    """
    return [alarm for done in range(len(records)) for alarm in begun(records[: done + 1])]


def begun(records: Sequence[Record]) -> list[Alarm]:
    """The alarms whose cause is there after the last of these epochs, and was not before it."""
    found = []
    for kind, cause in CAUSES.items():
        text = cause(records)
        # What is wrong in one epoch is mostly wrong in those that follow: that is one event.
        if text is not None and (len(records) == 1 or cause(records[:-1]) is None):
            found.append(Alarm(kind, records[-1]["epoch"], text))
    return found


def _rate_at_cap(records: Sequence[Record]) -> str | None:
    """At its cap the rate has no gradient, whatever alpha (method.md 2.6)."""
    record = records[-1]
    if "rate_cap" not in record or record["train"]["rate"] <= record["rate_inert"]:
        return None
    rate, cap = record["train"]["rate"], record["rate_cap"]
    return (
        f"the rate, {rate:.2f} nats, was within {cap - record['rate_inert']:.1f} of its cap,"
        f" log {round(math.exp(cap))} = {cap:.2f}, for an epoch: alpha has no effect here;"
        " use q: fitted or a smaller latent_dim"
    )


def _catastrophic_overfitting(records: Sequence[Record]) -> str | None:
    """Accuracy under several steps fell, by far more than that under one step."""
    probed = [record for record in records if "accuracy/multi_step" in record.get("probe", {})]
    if not probed or probed[-1] is not records[-1]:
        return None
    best = max(probed, key=lambda record: record["probe"]["accuracy/multi_step"])
    one, several = _accuracies(records[-1])
    one_before, several_before = _accuracies(best)
    clear = min(several_before, one) - several >= CLEAR
    fallen = clear and several < FALLEN * several_before
    # Of the images that withstand one step, the part that withstands several: a training that
    # diverges loses both alike, and that is not overfitting to one step.
    apart = several * one_before < APART * several_before * one
    if not (fallen and apart):
        return None
    return (
        f"catastrophic overfitting: accuracy under several steps is {several:.1%}, after"
        f" {several_before:.1%} in epoch {best['epoch']}, and under one step {one:.1%}, after"
        f" {one_before:.1%}: the network withstands the one step and no search; use N-FGSM"
        " (start: uniform, start_size: twice eps, project: false), more steps or a lower lr;"
        " with train.validate the best weights are those from before"
    )


def _accuracies(record: Record) -> tuple[float, float]:
    probe = record["probe"]
    return probe["accuracy/one_step"], probe["accuracy/multi_step"]


def _random_directions_only(records: Sequence[Record]) -> str | None:
    """Random views have near posteriors, and a search nearby finds one that is far away."""
    probe = records[-1].get("probe", {})
    if records[-1].get("matching_views") != "random" or "shift/random" not in probe:
        return None
    random, found = probe["shift/random"], probe["shift/adversarial"]
    unrelated = probe["shift/unrelated"]
    # Where all posteriors are one there is no direction: that is another alarm.
    if probe["informative_latents"] == 0:
        return None
    if random >= NEAR * unrelated or found <= FAR * unrelated:
        return None
    return (
        f"matching holds along random directions only: a corner of the ball moves the posterior"
        f" by {random / unrelated:.1%} of the distance of unrelated images, and five steps of a"
        f" search in it by {found / unrelated:.0%}{_times(found, random)}; trainings against an"
        f" attacker stay below {FAR:.0%}. Random directions flatter: attack the model before you"
        " call it robust, or match an adversarial view, found by loss: posterior"
    )


def _times(found: float, random: float) -> str:
    # Rounded to nothing, a shift along random directions has no multiple.
    return f", {found / random:.0f} times as far" if random > 0 else ""


def _constant_posterior(records: Sequence[Record]) -> str | None:
    """No latent tells images apart, neither by its mean nor by its width."""
    counts = [record["probe"]["informative_latents"] for record in records if "probe" in record]
    if not counts or counts[-1] > 0:
        return None
    # At the very start a network tells nothing apart yet.
    if max(counts) == 0 and len(counts) < PATIENCE:
        return None
    return (
        "the posterior is the same for all images: no latent carries 1% of its variance; use a"
        " smaller alpha or gamma, a warm-up of gamma (matching.warmup_steps) or a lower lr"
    )


CAUSES: dict[str, Callable[[Sequence[Record]], str | None]] = {
    "rate_at_cap": _rate_at_cap,
    "catastrophic_overfitting": _catastrophic_overfitting,
    "random_directions_only": _random_directions_only,
    "constant_posterior": _constant_posterior,
}
"""What each kind of alarm looks at: records to what is wrong in the last of them, else None."""
