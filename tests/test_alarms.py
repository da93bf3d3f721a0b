"""What a training is watched by: the probe's measurements, and the alarms they raise."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from paradise_cli.build import build_info, build_objective
from paradise_cli.cli import app
from paradise_cli.evaluation.probe import probe_of
from paradise_cli.recipe.views import matches_at_random, watched_radius, watches
from paradise_cli.training.alarms import Alarm, alarms
from paradise_cli.training.run_folder import RunFolder

from .test_training import recipe, run
from .test_validation import images_at, two_classes

CPU = torch.device("cpu")
INFO = build_info(recipe())


def probed(*epochs: tuple[float, float]) -> list[dict[str, Any]]:
    """Records of epochs with these accuracies under one step and under several."""
    return [
        {
            "epoch": number,
            "probe": {
                "informative_latents": 3,
                "accuracy/one_step": one,
                "accuracy/multi_step": several,
            },
        }
        for number, (one, several) in enumerate(epochs, start=1)
    ]


def shifted(*epochs: tuple[float, float], views: str = "random") -> list[dict[str, Any]]:
    """Records of epochs with these shifts at random and under a search; unrelated images are 1."""
    return [
        {
            "epoch": number,
            "matching_views": views,
            "probe": {
                "informative_latents": 3,
                "shift/random": random,
                "shift/adversarial": found,
                "shift/unrelated": 1.0,
            },
        }
        for number, (random, found) in enumerate(epochs, start=1)
    ]


def informative(*counts: int) -> list[dict[str, Any]]:
    """Records of epochs with so many latents that tell images apart."""
    return [
        {"epoch": number, "probe": {"informative_latents": count}}
        for number, count in enumerate(counts, start=1)
    ]


def at_rates(*rates: float) -> list[dict[str, Any]]:
    """Records of epochs with these rates, whose cap is log 8 and without effect from 2 on."""
    return [
        {"epoch": number, "train": {"rate": rate}, "rate_cap": math.log(8), "rate_inert": 2.0}
        for number, rate in enumerate(rates, start=1)
    ]


COMPOSED = (
    "{name: composition, of: [{name: corner, eps: 0.1}, {name: blur, sigma: 1.0},"
    " {name: adversarial, eps: 0.2, loss: posterior}]}"
)
OVERFITTING, RANDOM = "catastrophic_overfitting", "random_directions_only"
CONSTANT, CAP = "constant_posterior", "rate_at_cap"


@pytest.mark.parametrize(
    ("records", "kind", "expected"),
    [
        # The textbook case, named in the epoch of the fall and not again.
        (probed((0.6, 0.5), (0.7, 0.6), (0.9, 0.1), (0.9, 0.0)), OVERFITTING, [3]),
        # One step may lose a little too, as long as several lose far more.
        (probed((0.7, 0.6), (0.6, 0.1)), OVERFITTING, [2]),
        # A training that recovers and falls again has overfitted twice.
        (probed((0.6, 0.5), (0.9, 0.1), (0.6, 0.5), (0.9, 0.2)), OVERFITTING, [2, 4]),
        # Just not below 0.6 of the best.
        (probed((0.6, 0.5), (0.7, 0.3)), OVERFITTING, []),
        (probed((0.6, 0.5), (0.7, 0.299)), OVERFITTING, [2]),
        # Ups and downs of an honest training, one that diverges, and one that never withstood.
        (probed((0.5, 0.4), (0.6, 0.5), (0.5, 0.42), (0.65, 0.55)), OVERFITTING, []),
        (probed((0.8, 0.7), (0.1, 0.1), (0.2, 0.15)), OVERFITTING, []),
        (probed((0.8, 0.7), (0.5, 0.4), (0.1, 0.02)), OVERFITTING, []),
        (probed((0.3, 0.05), (0.4, 0.0), (0.5, 0.0)), OVERFITTING, []),
        # Overfitted from the first epoch on, nothing fell.
        (probed((0.9, 0.0), (0.9, 0.0)), OVERFITTING, []),
        # Epochs that were not probed are not judged.
        ([*probed((0.6, 0.5)), {"epoch": 2}], OVERFITTING, []),
        (shifted((0.1, 0.9), (0.05, 0.21), (0.05, 0.7)), RANDOM, [2]),
        (shifted((0.0, 0.9)), RANDOM, [1]),
        # Unmatched at random, matched in all directions, or matched on purpose elsewhere.
        (shifted((0.1, 0.9), (0.09, 0.2), (0.01, 0.1)), RANDOM, []),
        (shifted((0.05, 0.8), views="searched"), RANDOM, []),
        (informative(3, 3, 0, 0), CONSTANT, [3]),
        (informative(0, 0, 2), CONSTANT, []),
        (informative(0, 0, 0, 0), CONSTANT, [3]),
        (at_rates(1.9, 2.01, 2.05, 1.5, 2.04), CAP, [2, 5]),
        (at_rates(1.0, 2.0), CAP, []),
    ],
)
def test_each_alarm_is_raised_in_its_epoch_and_in_no_other(
    records: list[dict[str, Any]], kind: str, expected: list[int]
) -> None:
    found = alarms(records)
    assert [alarm.epoch for alarm in found] == expected
    assert {alarm.kind for alarm in found} <= {kind}
    # What is raised does not depend on what comes later: a resumed training raises the same.
    for done in range(len(records)):
        assert alarms(records[:done]) == [alarm for alarm in found if alarm.epoch <= done]


def test_an_alarm_tells_its_numbers_and_what_to_do() -> None:
    (overfitting,) = alarms(probed((0.7, 0.6), (0.9, 0.1)))
    for part in ("10.0%, after 60.0% in epoch 1", "90.0%, after 70.0%", "use N-FGSM", "lower lr"):
        assert part in overfitting.text
    (random,) = alarms(shifted((0.08, 0.8)))
    for part in ("by 8.0%", "by 80%", "10 times as far", "loss: posterior"):
        assert part in random.text
    assert "gamma" in alarms(informative(1, 0))[0].text


def test_the_probe_of_a_linear_encoder_measures_what_is_known() -> None:
    """With mu = w (x - 1/2), w = +-1 in 64 pixels: a search moves it by 64 eps, and a corner by
    eps |s_1 + ... + s_64|, s_i = +-1, whose mean is 64 C(64, 32) / 2^64 = 6.36.
    """
    eps, apart = 0.01, 16.0
    found = two_sides(apart, eps, torch.tensor([1.0, -1.0]).repeat(100))
    assert found["informative_latents"] == 1
    # A shift also spreads what it is divided by, by at most its own size.
    assert found["shift/adversarial"] == pytest.approx(64 * eps / apart, rel=64 * eps / apart)
    mean = 64 * math.comb(64, 32) / 2**64
    # 200 draws of a mean with a deviation of three quarters of it.
    assert found["shift/random"] == pytest.approx(mean * eps / apart, rel=4 * 0.76 / 200**0.5)
    # All images are far from the border: no attack changes an answer.
    assert found["accuracy/one_step"] == found["accuracy/multi_step"] == 1.0


def two_sides(apart: float, eps: float, sides: torch.Tensor) -> dict[str, float]:
    """What is probed of a linear encoder whose images lie so far to these sides."""
    weights = torch.rand(64, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()
    split = images_at(apart * sides, weights)
    return probe_of(two_classes(weights), build_objective(recipe(), INFO), split, CPU, eps)()


def test_unrelated_images_are_drawn_at_random_whatever_the_order_of_the_data() -> None:
    """Two of 200 lie on different sides with probability 100/199, two deviations apart: in folders
    of classes as in any order.
    """
    alternating = torch.tensor([1.0, -1.0]).repeat(100)
    by_class = alternating.sort().values
    shuffled = alternating[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    for sides in (alternating, by_class, shuffled):
        found = two_sides(16.0, 0.1, sides)
        # 200 pairs have a standard error of 2 * sqrt(1/4 / 200).
        assert found["shift/unrelated"] == pytest.approx(200 / 199, abs=4 * 0.07)
        (alarm,) = alarms([{"epoch": 1, "matching_views": "random", "probe": found}])
        assert alarm.kind == RANDOM
    # Of two images each is the other's; one image has none.
    assert two_sides(16.0, 0.1, alternating[:2])["shift/unrelated"] == pytest.approx(2, rel=1e-5)
    assert not any(name.startswith("shift/") for name in two_sides(16.0, 0.1, alternating[:1]))


def test_one_step_and_several_break_the_same_images_of_a_linear_model() -> None:
    """Both move mu by eps |w|_1: they break those that are nearer to 0, and those read wrongly."""
    weights = torch.randn(64, generator=torch.Generator().manual_seed(1))
    reach = 0.05 * float(weights.abs().sum())
    split = images_at(reach * torch.tensor([-2, -1.2, -0.9, -0.5, 0.3, 0.8, 1.1, 1.5]), weights)
    split.labels[0] = 1
    objective = build_objective(recipe(), INFO)
    found = probe_of(two_classes(weights), objective, split, CPU, 0.05)()
    assert found["accuracy/one_step"] == found["accuracy/multi_step"] == 3 / 8
    # The attack of the validation is not repeated.
    found = probe_of(two_classes(weights), objective, split, CPU, 0.05, multi_step=False)()
    assert "accuracy/multi_step" not in found and found["accuracy/one_step"] == 3 / 8
    # Without a radius nothing is attacked; a constant encoder tells nothing apart.
    blind = two_classes(torch.zeros(64))
    assert probe_of(blind, objective, split, CPU, None)() == {"informative_latents": 0}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], None),
        (["views=[{name: gaussian, sigma: 0.1}]"], None),
        (["views=[image, {name: adversarial, eps: 8/255}]"], 8 / 255),
        # Each part of a composition starts where the one before ended; the whole range is 1.
        ([f"views=[image, {COMPOSED}]"], 0.3),
        (["views=[{name: composition, of: [" + 2 * "{name: corner, eps: 0.6}, " + "]}]"], 1.0),
        (["views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.2, around: 0}]"], 0.3),
        (["views=[{name: composition, of: [image, {name: blur, sigma: 1.0}]}]"], None),
        (["train.validate={attack: {eps: 0.2}}", "views=[{name: corner, eps: 0.1}]"], 0.2),
    ],
)
def test_a_recipe_is_watched_in_the_radius_it_names(
    overrides: list[str], expected: float | None
) -> None:
    assert watched_radius(recipe(*overrides)) == (expected and pytest.approx(expected))


def test_a_search_within_a_composition_is_no_view_at_random() -> None:
    matching = "objective.matching={distance: l1, gamma: 1}"
    assert not matches_at_random(recipe(f"views=[image, {COMPOSED}]", matching))
    noisy = "{name: composition, of: [{name: corner, eps: 0.1}, {name: blur, sigma: 1.0}]}"
    assert matches_at_random(recipe(f"views=[image, {noisy}]", matching))


def test_a_collapse_is_in_the_records_the_result_and_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gamma of 10,000 leaves no room for anything but one posterior for all images."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--device", "cpu", "--out", "run", "--json"]
    chosen = [
        "model.backbone.hidden=[8]",
        "train.epochs=4",
        "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]",
        "objective.matching={distance: l1, gamma: 10000}",
    ]
    for text in chosen:
        words += ["--set", text]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    folder = RunFolder(Path("run"))
    records = folder.records()
    found = alarms(records)
    assert [alarm.kind for alarm in found] == [CONSTANT]
    told = [alarm.to_json() for alarm in found]
    assert [alarm for record in records for alarm in record.get("alarms", [])] == told
    assert json.loads(folder.result.read_text())["alarms"] == told
    assert json.loads(shown.stdout)["alarms"] == told
    warning = f"warning: epoch {found[0].epoch}: the posterior is the same for all images"
    assert shown.stderr.count(warning) == 1


def test_the_attack_of_the_validation_is_not_repeated(tmp_path: Path) -> None:
    attack = "train.validate={attack: {eps: 0.1, steps: 10}}"
    listener = run(tmp_path, "train.epochs=1", attack)
    for record in listener.records:
        robust = record["validation"]["robust/cross_entropy"]
        assert record["probe"]["accuracy/multi_step"] == robust
        assert {"shift/random", "shift/adversarial", "shift/unrelated"} < record["probe"].keys()


def test_only_a_robust_training_is_probed() -> None:
    assert not watches(recipe())
    assert not watches(recipe("views=[{name: composition, of: [image, image]}]"))
    assert watches(recipe("views=[{name: gaussian, sigma: 0.1}]"))
    assert watches(recipe("train.validate={attack: {eps: 0.1}}"))


def test_an_alarm_reads_back_from_json() -> None:
    alarm = Alarm(CAP, 3, "text")
    assert Alarm(**json.loads(json.dumps(alarm.to_json()))) == alarm
