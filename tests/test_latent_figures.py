"""Ellipses, serial reconstruction and arithmetic, on models whose walks are known."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.information.gaussian import DiagonalGaussian, aggregate_moments
from paradise_cli.reproduction.encoder_maps import decoder_of, encoder_of, namer_of
from paradise_cli.reproduction.latent_walks import (
    RECONSTRUCTIONS,
    SHARES,
    Latents,
    arithmetic,
    fitted_samples,
    serial,
    split_along,
)

from .tiny_model import LATENT, save_tiny

K, SHAPE = 3, (1, 4, 4)
ROOT = torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [0, -1, 0.5]], dtype=torch.float64)
CENTRE = torch.tensor([1.0, -2, 3], dtype=torch.float64)
SIGMA = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)


def known_posterior() -> DiagonalGaussian:
    """Means CENTRE +- sqrt(K) times each column of ROOT: of covariance ROOT ROOT^T exactly."""
    steps = math.sqrt(K) * ROOT.T
    mu = torch.cat([CENTRE + steps, CENTRE - steps])
    return DiagonalGaussian(mu, SIGMA.expand(2 * K, K))


def test_moments_are_those_of_the_law_of_total_variance() -> None:
    mean, covariance = aggregate_moments(known_posterior())
    torch.testing.assert_close(mean, CENTRE)
    torch.testing.assert_close(covariance, ROOT @ ROOT.T + SIGMA.square().diag())


def test_moments_are_those_of_draws_from_all_posteriors() -> None:
    """By drawing z instead: 400,000 of them tell a covariance of about 5 to 0.01."""
    posterior = known_posterior()
    draw = generator("moments")
    rows = torch.randint(2 * K, (400_000,), generator=draw)
    noise = torch.randn(400_000, K, generator=draw, dtype=torch.float64)
    z = posterior.mu[rows] + SIGMA * noise
    mean, covariance = aggregate_moments(posterior)
    torch.testing.assert_close(z.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance, atol=0.05, rtol=0)


def test_samples_have_the_moments_asked_for_also_where_a_latent_never_moves() -> None:
    covariance = ROOT @ ROOT.T
    covariance[:, 2] = covariance[2, :] = 0
    z = fitted_samples(CENTRE, covariance, 400_000, seed=0)
    torch.testing.assert_close(z.mean(0), CENTRE, atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance, atol=0.05, rtol=0)
    assert float((z[:, 2] - CENTRE[2]).abs().max()) < 1e-6
    assert torch.equal(
        fitted_samples(CENTRE, covariance, 5, 0), fitted_samples(CENTRE, covariance, 5, 0)
    )


def rows_of_length_one() -> Tensor:
    """Three orthonormal pictures [K, 16]."""
    q, _ = torch.linalg.qr(torch.randn(16, K, generator=generator("pictures")))
    return q.T


def test_a_walk_of_a_linear_model_shrinks_as_its_powers() -> None:
    """decode(z) = z P and encode(x) = rho x P^T, with P P^T = 1: round k has rho^k z, so that the
    image moves by (1 - rho) rho^(k-1) |z|, whose square 16 pixels share.
    """
    pictures, rho = rows_of_length_one(), 0.8
    found = serial(
        known_posterior(),
        encode=lambda x: rho * x.flatten(1) @ pictures.T,
        decode=lambda z: (z @ pictures).view(-1, *SHAPE),
        count=5,
    )
    assert found.images.shape == (5, 1 + RECONSTRUCTIONS, *SHAPE) and found.n == 2 * K
    lengths = found.z.square().sum(1)
    for k, moved in enumerate(found.moved, start=1):
        wanted = (1 - rho) ** 2 * rho ** (2 * (k - 1)) * lengths / 16
        assert moved.value == pytest.approx(float(wanted.mean()), rel=1e-4)
    torch.testing.assert_close(found.images[:, 0].flatten(1), found.z.float() @ pictures)


def test_an_edit_is_found_again_as_far_as_the_encoder_turns_it() -> None:
    """Encoding what was decoded turns z by an angle in the plane of the difference and shrinks it:
    rho cos(angle) of the difference is found again, rho sin(angle) beside it.
    """
    pictures, rho, angle = rows_of_length_one(), 0.9, math.radians(20)
    turn = torch.eye(K)
    turn[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    mu = torch.tensor([[0.0, 0, 1], [0, 0, 2], [2, 0, 1], [4, 0, 2], [9, 9, 9]])
    labels = torch.tensor([0, 0, 1, 1, -1])
    latents = Latents(
        mu=mu,
        labels=labels,
        encode=lambda x: rho * x.flatten(1) @ pictures.T @ turn.T,
        decode=lambda z: (z @ pictures).view(-1, *SHAPE),
        name=lambda z: (z[:, 0] > 1.5).long(),
    )
    images = torch.rand(5, *SHAPE)
    found = arithmetic(latents, lambda rows: images[rows], ["low", "high"], 1, 0, shown=1)
    torch.testing.assert_close(found.difference, torch.tensor([3.0, 0, 0]))
    assert found.n == 2 and (found.plus, found.minus) == ("high", "low")
    assert found.kept.value == pytest.approx(rho * math.cos(angle), rel=1e-5)
    assert found.aside.value == pytest.approx(rho * math.sin(angle), rel=1e-5)
    assert found.named is not None
    assert [share.value for share in found.named] == [0, 1]
    # One image, by the shares of the classes' difference, and by that of the first pair.
    edits = mu[:1] + torch.tensor(SHARES)[:, None] * torch.tensor([3.0, 0, 0])
    torch.testing.assert_close(found.edited[0].flatten(1), edits @ pictures)
    by_pair = (mu[:1] + torch.tensor([2.0, 0, 0])) @ pictures
    torch.testing.assert_close(found.by_pair[0].flatten(1), by_pair)
    assert torch.equal(found.originals, images[:1])


def test_moves_are_split_along_a_direction() -> None:
    along, aside = split_along(torch.tensor([[3.0, 4], [0, 1]]), torch.tensor([2.0, 0]))
    assert along.tolist() == [1.5, 0] and aside.tolist() == [2, 0.5]
    nowhere = split_along(torch.ones(2, 2), torch.zeros(2))
    assert [part.tolist() for part in nowhere] == [[0, 0], [0, 0]]


def test_a_class_without_images_is_named() -> None:
    latents = Latents(torch.zeros(2, K), torch.tensor([0, 0]), lambda x: x, lambda z: z)
    with pytest.raises(ParadiseError, match="there is no image of dog"):
        arithmetic(latents, lambda rows: torch.zeros(1), ["cat", "dog"], 1, 0, shown=1)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of a decoder and classifier, and images of three classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / ("cat", "dog", "newt")[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12, 12), np.uint8)).save(path)
    return save_tiny(tmp_path / "tiny.safetensors")


def test_maps_of_a_model_do_not_depend_on_how_many_rows_there_are(tiny: Path) -> None:
    loaded = paradise_cli.load(tiny)
    encode, decode, name = encoder_of(loaded), decoder_of(loaded), namer_of(loaded, "class")
    images = torch.rand(150, *loaded.info.shape, generator=generator("maps"))
    z = encode(images)
    assert torch.equal(encode(images[70:71]), z[70:71])
    np.testing.assert_allclose(z, loaded.encode(images).mean, atol=1e-6)
    assert decode(z).shape == images.shape and torch.equal(decode(z[7:9]), decode(z)[7:9])
    assert name is not None and name(z).shape == (150,)
    assert namer_of(loaded, "another") is None


def arrays_in(path: str | Path) -> dict[str, Any]:
    with np.load(path) as file:  # which reads an array when it is asked for it
        return dict(file)


def figure(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["figure", *words, "--device", "cpu"])
    assert done.exit_code == code, done.output
    return done


MODEL = ("tiny.safetensors", "--data", "photos")


def test_pictures_and_their_data(tiny: Path, pictures: None) -> None:
    found = json.loads(figure("serial", *MODEL, "--shown", "2", "--json").stdout)
    assert found["n"] == 12 and len(found["squared_change_of_a_pixel"]) == RECONSTRUCTIONS
    arrays = arrays_in(found["data"])
    assert arrays["images"].shape == (2, 5, 1, 12, 12) and arrays["covariance"].shape == (3, 3)
    found = json.loads(
        figure("arithmetic", *MODEL, "--plus", "dog", "--minus", "cat", "--json").stdout
    )
    assert found["n"] == 4 and len(found["named_plus_before_and_after"]) == 2
    assert arrays_in(found["data"])["edited"].shape == (4, len(SHARES), 1, 12, 12)
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "found again" in figure("arithmetic", *MODEL, "--plus", "dog", "--minus", "cat").stdout


def test_ellipses_of_several_models_stand_side_by_side(tiny: Path, pictures: None) -> None:
    save_tiny(tiny.with_name("plane.safetensors"), latent_dim=2)
    models = ("plane.safetensors", "plane.safetensors", "--data", "photos")
    found = json.loads(figure("ellipses", *models, "--json").stdout)
    arrays = arrays_in(found["data"])
    assert arrays["mu"].shape == (2, 12, 2) and arrays["labels"].shape == (12, 1)
    assert found["picture"] == "figures/ellipses-plane-plane.png"
    with Image.open(found["picture"]) as drawn:
        assert drawn.width == round((8.6 + 7.2) * 150)


def test_posteriors_show_their_progress(
    tiny: Path, pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paradise_cli.cli.progress.QUIET_SECONDS", 0.0)
    save_tiny(tiny.with_name("plane.safetensors"), latent_dim=2)
    classes = ("--plus", "dog", "--minus", "cat")
    for words in (
        ("ellipses", "plane.safetensors", "--data", "photos"),
        ("serial", *MODEL),
        ("arithmetic", *MODEL, *classes),
    ):
        assert "encoding: 12 of 12" in figure(*words).stderr, words


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["serial", "digits-2d"], 1, "digits-2d.safetensors has no decoder"),
        (["serial", *MODEL, "--head", "pictur"], 2, "no decoder of that name; did you mean"),
        (["serial", *MODEL, "--shown", "0"], 2, "--shown"),
        (["arithmetic", *MODEL], 2, "--plus: name a class of class: cat, dog, newt"),
        (["arithmetic", *MODEL, "--plus", "dgo", "--minus", "cat"], 2, "did you mean 'dog'"),
        (["arithmetic", *MODEL, "--plus", "cat", "--minus", "cat"], 2, "are both cat"),
        (["arithmetic", *MODEL, "--target", "colour"], 2, "--target colour: no such target"),
        (["ellipses", *MODEL], 1, f"2 latent dimensions; this model has {LATENT}"),
        (["ellipses", *["tiny.safetensors"] * 7], 2, "at most 6 fit into one picture"),
    ],
)
def test_what_cannot_be_drawn_is_one_message(
    tiny: Path, words: list[str], code: int, message: str
) -> None:
    said = figure(*words, code=code).stderr
    assert message in said and not Path("figures").exists()


@pytest.mark.parametrize("name", ["ellipses", "plane"])
def test_models_of_other_images_are_not_compared(tiny: Path, name: str) -> None:
    save_tiny(tiny.with_name("plane.safetensors"), latent_dim=2, root="photos")
    said = figure(name, "digits-2d", "plane.safetensors", "--split", "train", code=1).stderr
    assert "digits-2d.safetensors is judged on digits, train, and " in said
    assert "plane.safetensors on photos, train: these are not the same images and classes" in said
    assert "name one data set for all, by --data" in said and not Path("figures").exists()
