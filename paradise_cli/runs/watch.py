"""Watches a training: probes its model after each epoch and raises alarms."""

from collections.abc import Callable, Sequence
from typing import Any

from paradise_cli.evaluation.probe import ATTACK_STEPS, IMAGES, probe_of
from paradise_cli.evaluation.validation import unlabelled
from paradise_cli.recipe.views import matches_at_random, watched_radius, watches
from paradise_cli.runs.prepare import Training
from paradise_cli.training.alarms import begun


def watch_of(
    training: Training, before: Sequence[dict[str, Any]]
) -> Callable[[dict[str, Any]], None]:
    """What to call with the record of each epoch: it adds `probe`, and `alarms` if any begin.

    `before` are the records of the epochs that are done already.
    """
    records = list(before)
    recipe = training.recipe
    probe = _probe(training) if watches(recipe) else None

    def watch(record: dict[str, Any]) -> None:
        if probe is not None:
            record["probe"] = probe(record)
        if matches_at_random(recipe):
            # Said in the record, so that alarms are a function of the records alone.
            record["matching_views"] = "random"
        records.append(record)
        if found := begun(records):
            record["alarms"] = [alarm.to_json() for alarm in found]

    return watch


def _probe(training: Training) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The probe's measurements, with what the record holds of them already."""
    recipe, data, task = training.recipe, training.data, training.objective.judged
    chosen = recipe.train.validate
    # Of images without a label no accuracy under attack is known.
    validation = data.validation
    if validation is not None and task in unlabelled(training.objective, validation):
        validation = None
    # A search of fewer steps, or on fewer images, would say less than the probe's own.
    attacked = (
        chosen is not None
        and chosen.attack.steps >= ATTACK_STEPS
        and chosen.images >= IMAGES
        and validation is not None
    )
    measure = probe_of(
        training.model,
        training.objective,
        data.train if validation is None else validation,
        training.device,
        watched_radius(recipe),
        multi_step=not attacked,
    )

    def probe(record: dict[str, Any]) -> dict[str, float]:
        found = measure()
        if attacked:
            assert task is not None
            found["accuracy/multi_step"] = record["validation"][f"robust/{task.name}"]
        return found

    return probe
