"""What a training is reckoned to take in several processes and elsewhere."""

import json

import pytest
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import UsageError
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.runs.forecast import PLACES, Forecast, bytes_sent, forecast, shared_numbers

TINY = ["model={backbone: {name: mlp, hidden: [8]}, latent_dim: 4}"]
NUMBERS = (64 * 8 + 8) + (8 * 8 + 8) + (4 * 10 + 10)
"""Of the network: 64 pixels, 8 hidden, 4 means and 4 variances, 10 classes."""


def tiny(*overrides: str) -> Recipe:
    return load_recipe("digits", [*TINY, *overrides]).recipe


@pytest.mark.parametrize("world", [1, 2, 8])
@pytest.mark.parametrize("views", [1, 2])
def test_bytes_go_round_a_ring(world: int, views: int) -> None:
    """A sum of n numbers takes 2 (W - 1)/W n of each process, rows gathered from all half of it."""
    corners = "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]"
    shared = shared_numbers(tiny(*([corners] if views == 2 else [])))
    found = bytes_sent(shared, 64, world)
    rows = views * 64 * 3 * 4
    assert found == pytest.approx(4 * (world - 1) / world * (2 * (NUMBERS + rows) + rows))


def test_without_a_rate_gradients_alone_are_sent() -> None:
    recipe = tiny("model.stochastic=false", "objective.alpha=0")
    half = 8 * 4 + 4  # without variances
    assert bytes_sent(shared_numbers(recipe), 64, 2) == 4 * ((64 * 8 + 8) + half + (4 * 10 + 10))


TWO = "views=[image, {name: corner, eps: 0.1}]"
GATHERED = {
    "a mean, a sigma and z": ([], 3 * 4),
    "a factor for a sigma": (["model.covariance=full"], 4 + 4 * 4 + 4),
    "two views": ([TWO], 2 * 3 * 4),
    "posteriors that are matched, once more": (
        [TWO, "objective.matching={distance: l1, gamma: 1}"],
        2 * 3 * 4 + 2 * 2 * 4,
    ),
    "logits that are matched": (
        [TWO, "objective.matching={of: outputs, distance: squared, gamma: 1}"],
        2 * 3 * 4 + 2 * 10,
    ),
}


@pytest.mark.parametrize(("changes", "numbers"), GATHERED.values(), ids=list(GATHERED))
def test_all_that_is_gathered_of_an_image_is_counted(changes: list[str], numbers: int) -> None:
    assert shared_numbers(tiny(*changes)).gathered == numbers


def test_outputs_that_tell_images_apart_are_gathered_too() -> None:
    recipe = load_recipe("digits_self_supervised").recipe
    latents = recipe.model.latent_dim
    assert shared_numbers(recipe).gathered == 2 * 3 * latents + 2 * 32


def test_memory_holds_what_is_gathered_of_others_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its gradients, in float32, beside 24 bytes for each pair of the rate."""
    monkeypatch.setattr("paradise_cli.runs.estimate._peak_memory", lambda device: 1000)
    found = forecast(tiny("model.covariance=full"), "cpu", 4)
    assert found.memory_bytes == 1000 + 64 * (2 * 4 * (4 + 16 + 4) + 24 * 16)


def test_time_of_a_training_is_that_of_its_steps() -> None:
    reckoned = Forecast("h100", 8, 16, 128, 390, 200, 0, None, 1e6, 0.010, 0.004, 0.002)
    assert reckoned.step_seconds == pytest.approx(0.012)
    assert reckoned.hours == pytest.approx(0.012 * 390 * 200 / 3600)
    waiting = Forecast("h100", 8, 16, 128, 390, 200, 0, None, 1e6, 0.010, 0.030, 0.002)
    assert waiting.step_seconds == pytest.approx(0.032)


def test_a_forecast_says_what_it_is_of() -> None:
    words = ["train", "digits", "--dry-run", "--world", "8", "--device", "h100"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "8 processes on h100, an estimate" in shown.stdout and "8 of 64" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["estimate"] is True and found["images"] == 8
    recipe = load_recipe("digits").recipe
    assert found["sending"] == found["bytes_sent"] / PLACES["h100"].link
    assert found["bytes_sent"] == pytest.approx(bytes_sent(shared_numbers(recipe), 64, 8))
    beyond = forecast(recipe, "h100", 16)
    assert beyond.sending == pytest.approx(beyond.bytes_sent / PLACES["h100"].network)


def test_what_cannot_be_reckoned_is_refused() -> None:
    with pytest.raises(UsageError, match=r"129 processes and batches of 64: each needs an image"):
        forecast(load_recipe("digits").recipe, "h100", 129)
    with pytest.raises(UsageError, match=r"3 parts in 2 processes do not divide a batch of 64"):
        recipe = load_recipe("digits", ["objective.rate={q: fixed}"]).recipe
        forecast(recipe.with_train(accumulate=3), "h100", 2)
    with pytest.raises(UsageError, match=r"train.compile: a graph cannot wait for 2 processes"):
        forecast(load_recipe("digits", ["train.compile=true"]).recipe, "h100", 2)
    for words in (["--world", "8"], ["--dry-run", "--device", "h1000"]):
        refused = CliRunner().invoke(app, ["train", "digits", *words])
        assert refused.exit_code == 2
