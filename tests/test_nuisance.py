"""A model under nuisance: every number from a plain computation, and where there is none."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from paradise_cli.build import build_info, build_model
from paradise_cli.cli import app
from paradise_cli.core.randomness import image_keys
from paradise_cli.data import synthetic
from paradise_cli.evaluation import nuisance as module
from paradise_cli.evaluation.evaluate import measure
from paradise_cli.evaluation.nuisance import STRENGTHS, Mean, measure_nuisance, passes
from paradise_cli.models.weights import save_model
from paradise_cli.perturbations import SAMPLERS
from paradise_cli.recipe.schema import load_recipe
from tests.sampler_cases import drawn, keys, smooth_images

CPU = torch.device("cpu")
FEW = {
    "corner": ({"eps": 0.1}, {"eps": 0.2}, {"eps": 0.4}),
    "image": ({}, {}, {}),
    "rotation": ({"degrees": 20.0}, {"degrees": 45.0}, {"degrees": 90.0}),
}


@pytest.fixture
def few(monkeypatch):
    """Fewer samplers, of which one changes nothing."""
    monkeypatch.setattr(module, "STRENGTHS", FEW)


def setting(recipe="digits", *overrides, n=50, labels=None, numbers=None):
    """A freshly drawn model, n random images for it or those of some numbers among them, and what
    it is worth on them.
    """
    chosen = load_recipe(recipe, overrides).recipe
    info = build_info(chosen)
    split, model = synthetic(info, n).test, build_model(chosen, info)
    if labels is not None:
        split = split.relabel(labels(split.labels))
    if numbers is not None:
        split = split.select(torch.tensor(list(numbers)))
    return model, measure(model, chosen, info, split, device=CPU), split


def shares(k, n):
    return pytest.approx(k / n, abs=1e-12)


def test_numbers_are_those_of_a_plain_computation(few):
    model, measured, split = setting(labels=lambda all: torch.where(all < 3, -1, all))
    found = measure_nuisance(model, measured, split, device=CPU, seed=7)
    (pixels,) = split.fetch(torch.arange(50), 50, (), False)
    images, known = pixels.float() / 255, split.labels[:, 0] >= 0
    model.eval()

    def seen(views):
        mu, sigma = model.encode(views)
        return mu.detach(), sigma.detach(), model.heads["cross_entropy"](mu).argmax(1)

    mu, sigma, before = seen(images)
    for row in found.rows:
        sampler = SAMPLERS[row.sampler](**row.settings)
        view_keys = image_keys(torch.arange(50), "view", 0, 7, "nuisance", row.sampler)
        near, width, after = seen(drawn(sampler, images, view_keys))
        assert row.flip_rate.value == shares(int((before != after).sum()), 50)
        right = (after == split.labels[:, 0])[known]
        assert row.accuracy.value == shares(int(right.sum()), int(known.sum()))
        # The spread of mu, but for a latent that is hardly used a hundredth of all its spread.
        spread = np.concatenate([mu, near]).var(0)
        noise = np.square(np.concatenate([sigma, width])).mean(0)
        scale = np.sqrt(np.maximum(spread, 0.01 * (spread + noise)))
        apart = ((mu - near).abs() + (sigma - width).abs()).numpy() / scale
        assert row.shift.value == pytest.approx(float(apart.mean()), rel=1e-4, abs=1e-6)
        # 2.009575: Student's t of 49 degrees of freedom leaves 2.5% on either side.
        half = 2.009575 * apart.mean(1).std(ddof=1) / math.sqrt(50)
        assert row.shift.high - row.shift.value == pytest.approx(half, rel=1e-3, abs=1e-6)
    assert found.accuracy == measured.evaluation.classification[0].top1
    assert (found.task, found.n, len(found.rows), found.note) == ("cross_entropy", 50, 9, None)


def test_the_image_itself_flips_nothing_and_shifts_nothing(few):
    model, measured, split = setting()
    found = measure_nuisance(model, measured, split, device=CPU)
    for row in found.rows[3:6]:
        assert (row.sampler, row.flip_rate.value, row.shift.value) == ("image", 0, 0)
        assert row.accuracy == found.accuracy
    assert all(row.shift.value > 0 for row in found.rows if row.sampler != "image")


def test_the_seed_draws_other_views_and_nothing_else_does(few):
    model, measured, split = setting()
    first, again, other = (
        measure_nuisance(model, measured, split, device=CPU, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again and first.rows[0].shift != other.rows[0].shift


def test_every_random_sampler_grows_from_weak_to_strong():
    """An image changes the more, the stronger it is drawn."""
    assert set(STRENGTHS) == set(SAMPLERS) - {"image", "composition", "adversarial"}
    images = smooth_images(40, 3, (32, 32))
    for name, strengths in STRENGTHS.items():
        changes = [
            float((drawn(SAMPLERS[name](**each), images, keys(40)) - images).abs().mean())
            for each in strengths
        ]
        assert 0 < changes[0] < changes[1] < changes[2], name


def test_without_classes_only_the_shift_is_left(few):
    decoder = (
        "objective.tasks=[{distortion: squared_error, head: {name: mlp_decoder, hidden: [8]}}]"
    )
    model, measured, split = setting("digits", decoder)
    found = measure_nuisance(model, measured, split, device=CPU)
    assert (found.task, found.accuracy) == (None, None) and "no classification head" in found.note
    assert all(row.flip_rate is None and row.accuracy is None for row in found.rows)
    assert found.rows[0].shift.value > 0


def test_without_labels_answers_flip_all_the_same(few):
    model, measured, split = setting(labels=lambda all: torch.full_like(all, -1))
    found = measure_nuisance(model, measured, split, device=CPU)
    assert found.accuracy is None and found.note == "these images have no labels: no accuracy"
    assert all(row.accuracy is None for row in found.rows)
    assert found.rows[0].flip_rate is not None


def test_progress_counts_each_view(few):
    model, measured, split = setting(n=70)
    steps = []
    measure_nuisance(model, measured, split, device=CPU, progress=steps.append)
    assert sum(steps) == 70 * passes() == 70 * 9


def test_a_mean_of_what_is_never_negative_is_not_below_0():
    assert Mean.of(torch.tensor([0.0, 0.0, 3.0])).low == 0
    assert Mean.of(torch.tensor([-1.0, 0.0, 3.0])).low < -1


def test_the_interval_of_a_mean():
    """Of 1, 2, 3, 4: the mean is 2.5, the variance 5/3, and the error sqrt(5/12), times
    Student's t of three degrees of freedom, 3.1824.
    """
    found = Mean.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert found.value == 2.5
    half = 3.182446 * math.sqrt(5 / 12)
    assert found.high - 2.5 == 2.5 - found.low == pytest.approx(half, rel=1e-4)
    assert Mean.of(torch.tensor([3.0])) == Mean(3, 3, 3)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (range(1), "1 image hardly shows any;"),
        (range(9), "9 images hardly show any;"),
        ([3] * 12, "these images have one and the same mu;"),
        (range(10), None),
    ],
)
def test_so_few_images_that_mu_hardly_varies_are_told(few, numbers, said):
    model, measured, split = setting(numbers=numbers)
    found = measure_nuisance(model, measured, split, device=CPU)
    assert (found.note is None) if said is None else (said in found.note)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"eps": 8 / 255}, "eps 8/255"),
        ({"place": 0.1, "size": 0.05}, "place 0.1, size 0.05"),
        ({"quality": 80}, "quality 80"),
    ],
)
def test_a_strength_is_written_as_people_write_it(settings, text):
    assert module.NuisanceRow("any", settings, None, None, Mean(0, 0, 0)).strength == text


def weights(path, recipe, *overrides):
    chosen = load_recipe(recipe, overrides).recipe
    info = build_info(chosen)
    metadata = {"recipe": chosen.resolved(), "data": info.to_json(), "provenance": {"step": 0}}
    save_model(path, build_model(chosen, info), metadata)
    return path


def run(*arguments):
    command = ["evaluate", *map(str, arguments), "--nuisance", "--device", "cpu"]
    return CliRunner().invoke(app, command)


@pytest.mark.usefixtures("pictures")
def test_one_image_has_no_interval(tmp_path, few):
    path = weights(tmp_path / "model.safetensors", "digits")
    np.savez(tmp_path / "one.npz", images=np.full((1, 8, 8), 9, np.uint8), labels=[3])
    shown = run(path, "--data", tmp_path / "one.npz", "--out", tmp_path / "result.json")
    assert shown.exit_code == 0, shown.output
    assert "±" not in shown.stdout and (tmp_path / "result.nuisance.png").exists()
    assert "note: the shift means little: it is in standard deviations of mu" in shown.stderr
    rows = json.loads((tmp_path / "result.json").read_text())["nuisance"]["rows"]
    assert {row["shift"]["low"] for row in rows} == {None}


@pytest.mark.usefixtures("pictures")
def test_the_command_prints_a_table_and_draws_a_picture(tmp_path, few):
    path = weights(tmp_path / "model.safetensors", "digits")
    shown = run(path, "--out", tmp_path / "result.json")
    assert shown.exit_code == 0, shown.output
    for word in ("nuisance, 360 images", "rotation, degrees 45", "flips, %", "posterior shift"):
        assert word in shown.stdout
    assert (tmp_path / "result.nuisance.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "result.json").read_text())["nuisance"]["rows"]
    assert [row["sampler"] for row in rows[::3]] == list(FEW)
    assert rows[0]["settings"] == {"eps": 0.1} and set(rows[0]["shift"]) == {"value", "low", "high"}


def test_a_source_of_numbers_is_refused_before_any_is_drawn(tmp_path, monkeypatch):
    path = weights(tmp_path / "model.safetensors", "gaussian_source")
    monkeypatch.setattr(
        "paradise_cli.evaluation.evaluation_data.split_for", lambda *_: pytest.fail("read data")
    )
    refused = run(path)
    assert refused.exit_code == 2
    assert "--nuisance changes pictures, and gaussian_source holds none" in refused.stderr
