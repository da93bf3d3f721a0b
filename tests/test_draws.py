"""Draws of z: the first k of K are the k draws, for every k and K."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from paradise_cli.core.randomness import keyed_normal, normal_draws, seed_of
from paradise_cli.inference.encoding import encode_to_file
from paradise_cli.inference.loading import LoadedModel, draw, load

from .tiny_model import save_tiny

LATENTS = [1, 2, 3, 8, 10, 16, 64]
COUNTS = range(1, 21)


def tiny(folder: Path, latent_dim: int) -> LoadedModel:
    return load(save_tiny(folder / f"{latent_dim}.safetensors", latent_dim=latent_dim))


@pytest.mark.parametrize("latent_dim", LATENTS)
def test_the_first_draws_do_not_depend_on_how_many_are_asked_for(latent_dim: int) -> None:
    random = np.random.default_rng(0)
    mean = random.normal(size=(3, latent_dim)).astype(np.float32)
    sigma = random.uniform(0.1, 2, (3, latent_dim)).astype(np.float32)
    lower = np.tril(random.normal(size=(3, latent_dim, latent_dim))).astype(np.float32)
    for posterior in ({"sigma": sigma}, {"sigma": sigma, "scale_tril": lower}):
        found = {k: draw({"mean": mean} | posterior, [0, 5, 9], k, 7) for k in COUNTS}
        for k in COUNTS:
            for more in range(k, 21):
                assert np.array_equal(found[k], found[more][:, :k]), (k, more)
        assert len(np.unique(found[20][..., 0])) == 60  # no draw is another one's


def test_draws_of_a_full_posterior_have_its_covariance() -> None:
    """Of 40,000 draws a covariance is known to sqrt((S_ii S_jj + S_ij^2) / n), here 5 of these."""
    lower = np.array([[[0.5, 0], [-0.6, 0.2]]], np.float32)
    mean = np.array([[1.0, -2.0]], np.float32)
    (drawn,) = draw({"mean": mean, "sigma": mean, "scale_tril": lower}, [4], 40_000, 0)
    expected = np.array([[0.25, -0.3], [-0.3, 0.4]])
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / 40_000)
    assert (np.abs(np.cov(drawn.T) - expected) < 5 * error).all()
    assert np.abs(drawn.mean(0) - mean).max() < 5 * np.sqrt(0.4 / 40_000)


@pytest.mark.parametrize("latent_dim", LATENTS)
def test_encode_and_the_classifier_draw_the_same_first_z(latent_dim: int, tmp_path: Path) -> None:
    model = tiny(tmp_path, latent_dim)
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12), np.uint8)
    whole = model.encode(images, samples=20, seed=3).samples
    assert whole is not None
    noise = model.model.classifier(samples=20, seed=3).noise
    assert noise.shape == (20, latent_dim)
    for k in COUNTS:
        fewer = model.encode(images, samples=k, seed=3).samples
        assert fewer is not None and np.array_equal(fewer, whole[:, :k])
        assert torch.equal(model.model.classifier(samples=k, seed=3).noise, noise[:k])


@pytest.mark.parametrize(("one", "many"), [(1, 100), (3, 7)])
def test_files_of_few_and_many_samples_agree(tmp_path: Path, one: int, many: int) -> None:
    """The issue's case: draw 0 of --samples 1 is draw 0 of --samples 100."""
    model = tiny(tmp_path, 10)
    source = model.open(np.full((70, 12, 12), 90, np.uint8))
    few, more = (
        np.load(encode_to_file(model, source, tmp_path / f"{k}.npy", samples=k).out)
        for k in (one, many)
    )
    assert few.shape == (70, one, 10)
    assert np.array_equal(few, more[:, :one])


def test_the_classifier_averages_the_draws_of_its_noise(tmp_path: Path) -> None:
    """samples = k answers with the mean probability of draws 0 to k-1 of any longer list."""
    model = tiny(tmp_path, 2).model
    images = torch.rand(5, 1, 12, 12)
    longer = model.classifier(samples=20, seed=1)
    for k in (1, 4, 20):
        z = longer.posterior(images).rsample(longer.noise[:k, None])  # [k, 5, 2]
        expected = torch.stack([longer.classify(each) for each in z]).exp().mean(0)
        found = model.classifier(samples=k, seed=1)(images).exp()
        torch.testing.assert_close(found, expected)


def test_a_draw_is_a_function_of_key_row_and_number_alone() -> None:
    rows = torch.tensor([4, 0, 11])
    drawn = normal_draws(rows, 5, 3, 9, "test")
    assert drawn.shape == (3, 5, 3)
    for i, row in enumerate(rows.tolist()):
        for number in range(5):
            alone = keyed_normal(torch.tensor([seed_of(9, "test")]), (3,), row, number)[0]
            assert torch.equal(drawn[i, number], alone)
    assert torch.equal(normal_draws(rows.flip(0), 5, 3, 9, "test").flip(0), drawn)
    assert not torch.equal(normal_draws(rows, 5, 3, 8, "test"), drawn)
    assert not torch.equal(normal_draws(rows, 5, 3, 9, "other"), drawn)


def test_draws_are_standard_normal_and_independent() -> None:
    """Kolmogorov and Smirnov's distance of a million numbers, and correlations, at five sigma."""
    drawn = normal_draws(torch.arange(5000), 20, 10, 0, "test").double()  # [rows, draws, size]
    distance = stats.kstest(drawn.flatten().numpy(), "norm").statistic
    assert distance < 2.4 / drawn.numel() ** 0.5  # exceeded once in 50,000
    for axis in (0, 1, 2):  # neighbours in row, in draw and in dimension
        near = drawn.narrow(axis, 0, drawn.shape[axis] - 1)
        next_ = drawn.narrow(axis, 1, drawn.shape[axis] - 1)
        assert abs(float((near * next_).mean())) < 5 / near.numel() ** 0.5


def test_many_draws_are_made_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = np.zeros((9, 4), np.float32)
    posterior = {"mean": mean, "sigma": mean + 1}
    whole = draw(posterior, list(range(9)), 3, 0)
    monkeypatch.setattr("paradise_cli.inference.loading._NOISE", 25)
    assert np.array_equal(draw(posterior, list(range(9)), 3, 0), whole)
    assert draw({"mean": mean[:0], "sigma": mean[:0]}, [], 3, 0).shape == (0, 3, 4)
