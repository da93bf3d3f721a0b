"""`paradise rate` as the owner of another encoder meets it."""

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.cli.tables import rate_rows
from paradise_cli.core.units import significant
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate
from paradise_cli.information.rate_interval import rate_interval

from .tiny_model import save_images, save_tiny

N, K = 40, 3
RANDOM = np.random.default_rng(0)
MU = RANDOM.normal(size=(N, K)).astype(np.float32)
LOG_VARIANCE = RANDOM.normal(size=(N, K)).astype(np.float32)
LABELS = np.arange(N) % 2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with mu, logvar and labels, alone and together."""
    for name, array in (("mu", MU), ("logvar", LOG_VARIANCE), ("y", LABELS)):
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "z.npz", mu=MU, logvar=LOG_VARIANCE, labels=LABELS)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rate", *map(str, arguments)])


def test_a_table_for_people(files: Path) -> None:
    done = run(files / "mu.npy", files / "logvar.npy")
    assert done.exit_code == 0, done.output
    for word in (
        "40 posteriors", "rate I(X;Z)", "exact rate I_N", "bits", "in-batch", "leave-one-out",
        "stratified",
        "Bhattacharyya", "pairwise KL", "fitted Gaussian", "fixed N(0, I)", "active dimensions",
    ):  # fmt: skip
        assert word in done.stdout
    assert "H(Y)" not in done.output


def test_a_value_outside_its_certified_ends_is_said_to_be_a_draw() -> None:
    """Three far clusters of eight near points: a few nats above log 3, which one draw can miss."""
    centres = 100 * torch.eye(3, dtype=torch.float64).repeat_interleave(8, 0)
    noise = torch.randn(24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = DiagonalGaussian(centres + 0.3 * noise, torch.ones(24, 3, dtype=torch.float64))
    truth = exact_rate(posterior, draws=2000)
    said = set()
    for seed in range(8):
        rate = rate_interval(posterior, seed=seed)
        ends = rate.empirical
        (_, _, error), (_, _, certified) = rate_rows(rate)[1:]
        assert ends.lower <= truth.nats <= ends.upper
        assert (
            f"certified: {significant(ends.lower)} to {significant(ends.upper)} nats" in certified
        )
        assert f"standard error {rate.exact.standard_error:.2g} nats" in error
        outside = not ends.lower <= rate.exact.nats <= ends.upper
        assert ("more --draws" in certified) is outside
        said.add(outside)
    assert said == {True, False}


def test_labels_add_the_excess_and_say_whose_distortion_it_is(files: Path) -> None:
    done = run(files / "mu.npy", files / "logvar.npy", "--labels", files / "y.npy")
    assert done.exit_code == 0, done.output
    assert "excess" in done.stdout
    assert "logistic regression probe" in done.stderr


def test_one_json_document_whatever_the_kind_of_file(files: Path) -> None:
    done = run(
        files / "mu.npy", files / "logvar.npy", "--labels", files / "y.npy", "--json", "--out",
        files / "rate.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value == json.loads((files / "rate.json").read_text())
    assert value == json.loads(run(files / "z.npz", "--json").stdout)
    assert (value["n"], value["latents"]["dimensions"], value["labelled"]["classes"]) == (N, K, 2)
    assert value["rate"]["population"]["lower"] < value["rate"]["population"]["upper"]
    assert value["rate"]["exact"]["cap"] == pytest.approx(math.log(N))


def test_options_reach_the_measurement(files: Path) -> None:
    value = json.loads(
        run(files / "z.npz", "--seed", 4, "--batch-size", 8, "--draws", 3, "--json").stdout
    )["rate"]
    assert (
        value["settings"]["seed"],
        value["settings"]["batch_size"],
        value["exact"]["draws"],
    ) == (4, 8, 3)


def test_a_lower_end_at_its_cap_is_said_so(files: Path) -> None:
    np.savez(files / "far.npz", mu=1000 * MU, logvar=LOG_VARIANCE - 9)
    done = run(files / "far.npz")
    assert "(at its cap)" in done.stdout
    assert "more points raise the cap" in done.stderr


def test_what_encode_writes_can_be_rated(tmp_path: Path) -> None:
    weights = save_tiny(tmp_path / "tiny.safetensors")
    photos = save_images(tmp_path / "photos", 6)
    encoded = CliRunner().invoke(
        app, ["encode", str(photos), "--out", str(tmp_path / "z.npz"), "--model", str(weights)]
    )
    assert encoded.exit_code == 0, encoded.output
    done = run(tmp_path / "z.npz", "--json")
    assert done.exit_code == 0, done.output
    assert "labels in" in done.stderr and "left out: 4 labelled rows" in done.stderr
    value = json.loads(done.stdout)
    assert (value["n"], value["labelled"]) == (6, None)


def changed(array: np.ndarray[Any, Any], value: float) -> np.ndarray[Any, Any]:
    array = array.astype(np.float64)
    array[3, 1] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"mu": changed(MU, math.nan), "logvar": LOG_VARIANCE},
            "mu: row 3, dimension 1 is not finite",
        ),
        ({"mu": MU, "logvar": changed(MU, math.inf)}, "logvar: row 3, dimension 1 is not finite"),
        (
            {"mu": MU, "logvar": changed(MU, -math.inf)},
            "has sigma = 0: the rate of a deterministic",
        ),
        ({"mu": MU, "logvar": changed(MU, 1500)}, "|log variance| must be at most 200"),
        ({"mu": MU, "sigma": changed(np.abs(MU), 0)}, "sigma: row 3, dimension 1 has sigma = 0"),
        ({"mu": MU, "sigma": changed(np.abs(MU), -0.1)}, "has a negative sigma"),
        ({"mu": MU, "sigma": changed(np.abs(MU), 1e-80)}, "out of range"),
        ({"mu": changed(MU, 1e200), "sigma": np.abs(MU)}, "|mu| must be at most"),
        (
            {"mu": MU, "logvar": LOG_VARIANCE[:-1]},
            "[40, 3], {path}: logvar is [39, 3]: they must be alike",
        ),
        ({"mu": MU[:, 0], "logvar": LOG_VARIANCE[:, 0]}, "mu is [40]: it must be [N, latent_dim]"),
        ({"mu": MU[:, :0], "logvar": MU[:, :0]}, "mu is [40, 0]"),
        ({"mu": MU[:1], "logvar": MU[:1]}, "N = 1: a rate with its errors needs at least 4"),
        ({"mu": MU.astype(complex), "logvar": MU}, "of type complex128: it must hold numbers"),
        ({"mu": MU.astype("U8"), "logvar": MU}, "it must hold numbers"),
        ({"mu": MU.astype(object), "logvar": MU}, "Python objects, which are never unpickled"),
        (
            {"means": MU, "logvar": MU},
            "holds none of mu, mean; give exactly one (in it: means, logvar)",
        ),
        ({"mu": MU}, "holds none of logvar, log_var, log_variance, sigma, scale"),
        ({"mu": MU, "logvar": MU, "sigma": MU}, "holds both logvar and sigma; give exactly one"),
        (
            {"mu": MU, "logvar": MU, "labels": LABELS[:9]},
            "labels is [9]; there are N = 40 posteriors",
        ),
        ({"mu": MU, "logvar": MU, "labels": MU[:, 0]}, "labels are integers or text"),
    ],
)
def test_bad_arrays_end_in_one_message(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    path = tmp_path / "z.npz"
    np.savez(path, **arrays)
    refused(run(path), message.format(path=path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.npz"], "no such file: nowhere.npz"),
        (["nowhere.safetensors"], "no such file: nowhere.safetensors"),
        (["mu.npy", "nowhere.npy"], "no such file: nowhere.npy"),
        (["mu.npy"], "mu.npy is one array: add a second .npy"),
        (["z.npz", "logvar.npy"], "a second file belongs to an .npy of means"),
        (["z.npz", "--labels", "nowhere.npy"], "no such file: nowhere.npy"),
        (["z.npz", "--labels", "mu.npy"], "labels are integers or text"),
        (
            ["weights.pt"],
            "must end in .npy or .npz or .safetensors (pickled files, as .pt, are never opened)",
        ),
        (["mu.npy", "z.npz"], "z.npz: its name must end in .npy"),
        (["mu.npy", "archive.npy"], "archive.npy is an .npz archive by another name"),
        (["array.npz"], "array.npz is an .npy array by another name"),
        (["objects.npy", "logvar.npy"], "Python objects, which are never unpickled"),
        (["z.npz", "--batch-size", "1"], "--batch-size"),
        (["z.npz", "--draws", "0"], "--draws"),
    ],
)
def test_bad_commands_end_in_one_message(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(files)
    np.save("rows.npy", np.arange(N))
    Path("weights.pt").write_bytes(pickle.dumps({"mu": 1}))
    Path("archive.npy").write_bytes(Path("z.npz").read_bytes())
    Path("array.npz").write_bytes(Path("mu.npy").read_bytes())
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    refused(run(*arguments), message)


def refused(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_a_damaged_file_ends_in_one_message(files: Path) -> None:
    (files / "z.npz").write_bytes((files / "z.npz").read_bytes()[:300])
    done = run(files / "z.npz")
    assert done.exit_code == 1
    assert "damaged, or of another kind" in done.stderr


SIGMA = np.exp(RANDOM.normal(-1, 0.3, size=(N, K))).astype(np.float32)


def rate_of(*arguments: object) -> float:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    nats: float = json.loads(done.stdout)["rate"]["exact"]["nats"]
    return nats


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("sigma", SIGMA), ("z_std", SIGMA), ("scales", SIGMA), ("widths", SIGMA), ("logvar", SIGMA),
        ("Sigma", LOG_VARIANCE),
    ],
)  # fmt: skip
def test_widths_that_may_be_standard_deviations_are_refused_until_told(
    files: Path, name: str, array: np.ndarray[Any, Any]
) -> None:
    widths = files / f"{name}.npy"
    np.save(widths, array)
    done = run(files / "mu.npy", widths)
    assert done.exit_code == 2 and "Traceback" not in done.output and not done.stdout
    named = "named as standard deviations" if name not in ("widths", "logvar") else "positive"
    assert named in done.stderr
    for flag in ("--sigma", "--logvar"):
        assert f"paradise rate {files / 'mu.npy'} {widths} {flag}" in done.stderr


def test_each_reading_gives_the_rate_of_the_archive_that_names_it(files: Path) -> None:
    np.save(files / "sigma.npy", SIGMA)
    np.savez(files / "as_sigma.npz", mu=MU, std=SIGMA)
    np.savez(files / "as_logvar.npz", mu=MU, logvar=SIGMA)
    by_sigma = rate_of(files / "mu.npy", files / "sigma.npy", "--sigma")
    by_logvar = rate_of(files / "mu.npy", files / "sigma.npy", "--logvar")
    assert by_sigma == rate_of(files / "as_sigma.npz")
    assert by_logvar == rate_of(files / "as_logvar.npz")
    np.save(files / "log.npy", 2 * np.log(SIGMA.astype(np.float64)))
    # All of these are negative: they are no standard deviations, and need no word.
    assert rate_of(files / "mu.npy", files / "log.npy") == pytest.approx(by_sigma, rel=1e-6)
    assert by_sigma > 2 * by_logvar


def test_an_archive_names_its_widths_itself(files: Path) -> None:
    for flag in ("--sigma", "--logvar"):
        done = run(files / "z.npz", flag)
        assert done.exit_code == 2 and "names what it holds" in done.stderr
