"""`import paradise_cli`: what it offers, when it loads it, and that it is what the commands do."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paradise_cli
from paradise_cli.core.errors import UsageError
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.recipe.schema import load_recipe
from tests.tiny_model import save_images, save_tiny

OFFERED = ["attack", "evaluate", "load", "rate", "train"]


def test_five_functions_are_offered_and_loaded_when_first_used() -> None:
    program = (
        "import sys, paradise_cli\n"
        f"assert set({OFFERED}) <= set(dir(paradise_cli)) & set(paradise_cli.__all__)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert all(callable(getattr(paradise_cli, name)) and getattr(paradise_cli, name).__doc__\n"
        f"           for name in {OFFERED})\n"
        "assert not hasattr(paradise_cli, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_run_is_trained_loaded_and_measured(tmp_path: Path) -> None:
    overrides = ["train.epochs=1", "model.backbone.hidden=[4]", "train.precision=fp32"]
    trained = paradise_cli.train("digits", overrides=overrides, out=tmp_path / "run", device="cpu")
    loaded = paradise_cli.load(tmp_path / "run")
    again = paradise_cli.evaluate(tmp_path / "run", device="cpu")
    assert trained.folder == tmp_path / "run" and trained.evaluation is not None
    for evaluation in (again, paradise_cli.evaluate(loaded)):
        assert evaluation.to_json() == trained.evaluation.to_json()
    validation = paradise_cli.evaluate(loaded, split="validation", draws=2)
    assert validation.n != again.n and validation.data.endswith("validation")
    encoded = loaded.encode(np.zeros((3, 1, 8, 8), np.float32), samples=2)
    predicted = loaded.predict(np.zeros((3, 1, 8, 8), np.float32))
    for thing, words in (
        (trained, ["Trained(", "run", "3 pictures", "% right"]),
        (again, ["Evaluation(digits, test, n = ", "% right", "rate ", "nats"]),
        (loaded, ["LoadedModel(", "recipe 'digits'", "1x8x8 to 2 dimensions", "cpu"]),
        (encoded, ["Encoding(3 images, 2 dimensions, 2 draws)"]),
        (predicted, ["Prediction(3 images; cross_entropy: 10 classes)"]),
    ):
        assert len(repr(thing)) < 500 and all(word in repr(thing) for word in words), repr(thing)


def test_reconstructions_and_unreadable_files_have_short_names_too(tmp_path: Path) -> None:
    loaded = paradise_cli.load(save_tiny(tmp_path / "m.safetensors"))
    photos = save_images(tmp_path / "photos", 4)
    (photos / "broken.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="1 of 5 images cannot be read"):
        made = loaded.reconstruct(photos)
    assert repr(made) == "Reconstruction(4 images by picture; 1 file could not be read)"


def test_overrides_of_a_recipe_that_is_read_already_are_refused(tmp_path: Path) -> None:
    recipe = load_recipe("digits").recipe
    with pytest.raises(UsageError, match="not for a Recipe"):
        paradise_cli.train(recipe, overrides=["train.epochs=1"], out=tmp_path)
    assert not list(tmp_path.iterdir())


MU = np.random.default_rng(0).normal(size=(60, 2))


def test_a_rate_is_that_of_a_gaussian_channel_whatever_holds_the_arrays() -> None:
    """One posterior for all points tells nothing; the held-out Gaussian then costs next to it."""
    same: Any = [[0.0, 0.0]] * 60
    nothing = paradise_cli.rate(same, log_variance=same)
    assert nothing.rate.exact.nats == pytest.approx(0.0, abs=1e-6)
    by_sigma = paradise_cli.rate(MU, sigma=np.full_like(MU, 0.1))
    by_log = paradise_cli.rate(
        torch.tensor(MU), log_variance=torch.full((60, 2), 2 * math.log(0.1), dtype=torch.float64)
    )
    assert by_log.rate.exact.nats == pytest.approx(by_sigma.rate.exact.nats, rel=1e-12)
    assert by_sigma.rate.exact.nats > 1
    assert repr(by_sigma).startswith("PosteriorReport(60 posteriors: I(X;Z) ")
    labelled = paradise_cli.rate(MU, sigma=np.full_like(MU, 0.1), labels=["a", "b", "a"] * 20)
    assert labelled.labelled is not None and labelled.labelled.classes == 2
    assert "D + I_N - H(Y)" in repr(labelled)


def test_a_rate_is_read_from_every_tensor_and_no_list_of_rows_that_differ() -> None:
    quarters = torch.tensor(MU).mul(4).round().div(4)
    expected = paradise_cli.rate(quarters, sigma=torch.full((60, 2), 0.5))
    for mu in (quarters.to_sparse(), quarters.bfloat16(), list(quarters.requires_grad_())):
        found = paradise_cli.rate(mu, sigma=[[0.5, 0.5]] * 60)
        assert found.to_json() == expected.to_json()
    for odd, reason in (
        ([[1.0, 2.0], [3.0]], "mu of type list .*its parts differ in shape"),
        (quarters.to("meta"), "mu of type Tensor .*meta device"),
        ({"mu": MU}, "mu of type dict cannot be read"),
    ):
        with pytest.raises(UsageError, match=reason):
            paradise_cli.rate(odd, sigma=MU)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return paradise_cli.load(save_tiny(tmp_path_factory.mktemp("weights") / "m.safetensors"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": 5}, r"data must be text \(a folder, an \.npz or a data set\), not 5"),
        ({"data": ["digits"]}, r"data must be text"),
        ({"split": 3}, r"split must be text \(as 'test'\), not 3"),
        ({"overrides": {"data.size": 8}}, r"overrides must be a list of texts .*, not {'data"),
        ({"overrides": [8]}, r"overrides must be a list of texts .*, not \[8\]"),
        ({"overrides": "data.sise=8"}, "^--set data.sise=8: data.sise: unknown .*'size'"),
        ({"draws": "1"}, "draws must be a whole number from 1 to 10,000, not '1'"),
    ],
)
def test_options_of_another_type_are_one_message(
    tiny: LoadedModel, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        paradise_cli.evaluate(tiny, **given)


@pytest.mark.parametrize("seed", [None, "1", 1.5])
def test_draws_need_a_seed(tiny: LoadedModel, seed: Any) -> None:
    with pytest.raises(UsageError, match="seed must be a whole number"):
        tiny.encode(np.zeros((1, 1, 12, 12), np.float32), samples=1, seed=seed)


def test_what_cannot_be_called_is_no_classifier(tiny: LoadedModel) -> None:
    with pytest.raises(UsageError, match="a LoadedModel is no classifier: give a torch module"):
        images = np.zeros((2, 1, 4, 4), np.float32)
        paradise_cli.attack(tiny, images, np.arange(2), eps=0.1)  # type: ignore[arg-type]


def test_data_may_be_named_by_a_path(tiny: LoadedModel, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((8, 1, 12, 12), np.float32)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(8) % 3)
    by_path, by_text = (
        paradise_cli.evaluate(tiny, data, overrides=None)  # type: ignore[arg-type]
        for data in (tmp_path / "a.npz", str(tmp_path / "a.npz"))
    )
    assert by_path.to_json() == by_text.to_json()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": 5}, r"recipe must be text \(a file, .* or a Recipe\), not 5"),
        ({"out": 5}, r"out must be text \(a path\), not 5"),
        ({"out": ""}, "out: '' is no path"),
        ({"device": None}, "--device None: no such kind of device; allowed: auto"),
        ({"overrides": "train.epoch=1"}, "^--set train.epoch=1: .* did you mean 'epochs'"),
        ({"overrides": {"train.epochs": 1}}, "overrides must be a list of texts"),
    ],
)
def test_a_training_is_not_begun_with_options_of_another_type(
    given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        paradise_cli.train(**({"recipe": "digits"} | given))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("widths", [{}, {"sigma": MU, "log_variance": MU}])
def test_a_rate_needs_its_widths_by_one_name(widths: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs one of log_variance="):
        paradise_cli.rate(MU, **widths)
    with pytest.raises(TypeError):
        paradise_cli.rate(MU, MU)  # type: ignore[misc]


def test_arrays_in_any_order_of_memory_give_the_same_rate() -> None:
    """PCA gives arrays in Fortran's order, `.T` a view: neither may change a number."""
    rows = MU[:, ::-1]
    expected = paradise_cli.rate(np.ascontiguousarray(rows), sigma=np.full((60, 2), 0.1))
    for array in (rows, np.asfortranarray(rows), np.ascontiguousarray(rows.T).T):
        assert not array.flags.c_contiguous
        found = paradise_cli.rate(array, sigma=np.asfortranarray(np.full((60, 2), 0.1)))
        assert found.to_json() == expected.to_json()
