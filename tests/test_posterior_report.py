"""D + R - H(Y) of encoders whose information is known, and posteriors read from any plain file."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.posterior_files import classes_of, read_labels, read_posterior
from paradise_cli.evaluation.posterior_report import report
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.latents import latents
from paradise_cli.information.rate_interval import rate_interval

MU = torch.randn(30, 3, generator=generator("mu"), dtype=torch.float64).numpy()
LOG_VARIANCE = torch.randn(30, 3, generator=generator("width"), dtype=torch.float64).numpy()
SIGMA = np.exp(LOG_VARIANCE / 2)
LABELS = np.arange(30) % 3


def two_classes(n: int, distance: float) -> tuple[DiagonalGaussian, torch.Tensor]:
    """Half of the posteriors at each of two points, one for each class."""
    classes = torch.arange(n) % 2
    return DiagonalGaussian(distance * classes[:, None].double(), torch.ones(n, 1)), classes


def information_of_two(distance: float) -> float:
    """I(Y;Z) in nats of two equally probable unit Gaussians, by the trapezoidal rule."""
    z = torch.linspace(-12, 12 + distance, 200_001, dtype=torch.float64)
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    other = (-0.5 * (z - distance).square()).exp() / math.sqrt(2 * math.pi)
    mixture = (density + other) / 2
    terms = density * torch.where(density > 0, density / mixture, 1).log()
    return float(torch.trapezoid(terms, z))  # the same for the other class


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_an_encoder_that_tells_its_label_and_nothing_else_has_no_excess(distance):
    """I_N = I(Y;Z), and log-odds linear in z: the probe reaches D = H(Y|Z)."""
    posterior, classes = two_classes(2000, distance)
    found = report(posterior, classes)
    information = information_of_two(distance)
    assert found.rate.exact.nats == pytest.approx(
        information, abs=4 * found.rate.exact.standard_error
    )
    labelled = found.labelled
    assert labelled.entropy == pytest.approx(math.log(2), abs=1e-12)
    error = 4 * labelled.distortion_error
    assert labelled.distortion == pytest.approx(math.log(2) - information, abs=error + 0.002)
    assert abs(labelled.excess) < 4 * labelled.excess_error + 0.002
    assert labelled.excess == pytest.approx(
        labelled.distortion + found.rate.exact.nats - labelled.entropy, abs=1e-12
    )


def test_what_z_tells_beyond_the_label_is_excess():
    """Posteriors all apart: R = log N, so log N - H(Y) nats are wasted, and it may be more."""
    n = 200
    side = torch.where(torch.arange(n) < 50, -1e4, 1e4)
    mu = (side + 100 * torch.arange(n))[:, None]
    found = report(DiagonalGaussian(mu, torch.ones(n, 1)), (side > 0).long()).labelled
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found.entropy == pytest.approx(entropy, abs=1e-12)
    assert found.excess - found.distortion == pytest.approx(math.log(n) - entropy, abs=1e-9)
    assert 0 < found.distortion < 0.1
    assert found.at_cap


def test_labels_that_z_does_not_know_cost_their_entropy():
    classes = torch.randint(0, 3, (600,), generator=generator("labels"))
    found = report(DiagonalGaussian(torch.ones(600, 2), torch.ones(600, 2)), classes).labelled
    assert found.distortion == pytest.approx(found.entropy, abs=0.03)
    assert found.entropy_error < 0.01
    assert 0 < found.excess < 0.03


def test_unknown_labels_count_in_the_rate_only():
    posterior, classes = two_classes(400, 2.0)
    few = torch.where(torch.arange(400) < 200, classes, -1)
    found = report(posterior, few)
    assert (found.n, found.labelled.n, found.labelled.classes) == (400, 200, 2)
    assert found.rate == rate_interval(posterior)
    assert found.latents == latents(posterior)


def test_a_class_seen_once_costs_a_finite_amount():
    posterior, classes = two_classes(60, 1.0)
    classes[7] = 2
    found = report(posterior, classes).labelled
    assert math.isfinite(found.distortion)
    one = report(posterior, torch.zeros(60, dtype=torch.int64)).labelled
    assert (one.classes, one.entropy, one.distortion) == (1, 0, pytest.approx(0, abs=1e-12))


def test_is_a_function_of_the_seed_and_of_its_options():
    posterior, classes = two_classes(60, 1.0)
    assert report(posterior, classes, seed=1) == report(posterior, classes, seed=1)
    assert (
        report(posterior, classes, seed=1).labelled != report(posterior, classes, seed=2).labelled
    )
    options = {"seed": 5, "batch_size": 16, "draws": 3}
    assert report(posterior, **options).rate == rate_interval(posterior, **options)


def test_json_has_the_probe_and_bits():
    value = json.loads(json.dumps(report(*two_classes(60, 1.0)).to_json(), allow_nan=False))
    labelled = value["labelled"]
    assert "logistic regression" in labelled["probe"]
    for name in ("distortion", "entropy", "excess"):
        assert labelled[f"{name}_bits"] == pytest.approx(labelled[name] / math.log(2))
    assert value["rate"]["exact"]["n"] == 60
    assert report(two_classes(60, 1.0)[0]).to_json()["labelled"] is None


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (torch.arange(60), "60 kinds in 60 rows"),
        (torch.where(torch.arange(60) < 9, 0, -1), "9 labelled rows"),
    ],
)
def test_labels_that_are_no_classes_are_refused(classes, message):
    with pytest.raises(UsageError, match=message):
        report(two_classes(60, 1.0)[0], classes)


def save(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: torch.from_numpy(a.copy()) for name, a in arrays.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("mean", "width"),
    [
        ("mu", "logvar"),
        ("mean", "log_variance"),
        ("mu", "log_var"),
        ("mu", "sigma"),
        ("mean", "scale"),
    ],
)
def test_archives_give_the_same_posterior_by_any_name(tmp_path, suffix, mean, width):
    values = LOG_VARIANCE if width.startswith("log") else SIGMA
    path = save(tmp_path / f"z{suffix}", **{mean: MU, width: values, "labels": LABELS, "other": MU})
    posterior, classes = read_posterior(path)
    assert np.array_equal(posterior.mu, MU)
    np.testing.assert_allclose(posterior.sigma, SIGMA, rtol=1e-14)
    assert classes.tolist() == LABELS.tolist()


def test_two_arrays_give_the_same_posterior(tmp_path):
    for name, array in (("mu", MU), ("logvar", LOG_VARIANCE), ("sigma", SIGMA)):
        np.save(tmp_path / f"{name}.npy", array)
    by_log = read_posterior(tmp_path / "mu.npy", tmp_path / "logvar.npy")
    by_width = read_posterior(tmp_path / "mu.npy", tmp_path / "sigma.npy", sigma=True)
    np.testing.assert_allclose(by_log[0].sigma, by_width[0].sigma, rtol=1e-14)
    assert by_log[1] is by_width[1] is None


def test_half_precision_is_read(tmp_path):
    mu = torch.from_numpy(MU).bfloat16()
    save_file(
        {"mu": mu, "sigma": torch.ones(30, 3, dtype=torch.float16)}, tmp_path / "z.safetensors"
    )
    posterior, _ = read_posterior(tmp_path / "z.safetensors")
    assert torch.equal(posterior.mu, mu.double())


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([5, -1, 9, 5]), [0, -1, 1, 0]),
        (np.array(["b", "a", "b", "c"]), [1, 0, 1, 2]),
        (np.array([[3], [4], [3], [-1]], np.int8), [0, 1, 0, -1]),
        (np.empty((4, 0), np.int64), [-1] * 4),
        (np.array([True, False, False, True]), [1, 0, 0, 1]),
        (np.array([7, 7, 8, 8], np.uint8), [0, 0, 1, 1]),
    ],
)
def test_labels_become_class_numbers(labels, expected):
    assert classes_of(labels, 4, "y").tolist() == expected


def test_of_several_labels_a_row_the_first_counts_and_it_says_so():
    with pytest.warns(UserWarning, match=r"y is \[4, 2\], several labels a row: the first counts"):
        classes = classes_of(np.array([[3, 0], [4, 1], [3, 0], [-1, 1]]), 4, "y")
    assert classes.tolist() == [0, 1, 0, -1]


@pytest.mark.parametrize("none", [False, True], ids=["all marked", "one of no class"])
@pytest.mark.parametrize(
    "labels", [np.eye(3, dtype=kind) for kind in (np.int64, np.float32, bool)]
    + [np.uint8(255) * np.eye(3, dtype=np.uint8)], ids=lambda labels: str(labels.dtype)
)  # fmt: skip
def test_one_hot_labels_are_refused_and_not_halved(labels, none):
    one_hot = labels[[0, 2, 1, 1]]
    one_hot[3] *= not none
    with pytest.raises(UsageError, match=r"y is .* marks a class in each.*labels\.argmax\(1\)"):
        classes_of(one_hot, 4, "y")


def test_a_column_of_zeros_makes_no_one_hot_labels():
    with pytest.warns(UserWarning, match="several labels a row"):
        assert classes_of(np.array([[1, 0], [0, 0], [1, 0]]), 3, "y").tolist() == [1, 0, 1]


def test_an_archive_whose_labels_are_all_unknown_has_none(tmp_path):
    path = save(tmp_path / "z.npz", mu=MU, logvar=LOG_VARIANCE, labels=np.full((30, 1), -1))
    assert read_posterior(path)[1] is None
    np.save(tmp_path / "y.npy", np.full(30, -1))
    with pytest.raises(UsageError, match="no row is labelled"):
        read_labels(tmp_path / "y.npy", 30)


def test_damaged_files_are_named(tmp_path):
    for name in ("z.npz", "z.safetensors"):
        path = save(tmp_path / name, mu=MU, logvar=LOG_VARIANCE)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ParadiseError, match=name):
            read_posterior(path)
    header = b"\x93NUMPY\x01\x00\x04\x00{((\n"  # of which numpy's own parser speaks
    for content in (b"", b"hello", b"\x93NUMPY\x01\x00", header):
        (tmp_path / "mu.npy").write_bytes(content)
        with pytest.raises(ParadiseError, match=r"mu\.npy cannot be read"):
            read_posterior(tmp_path / "mu.npy", tmp_path / "mu.npy")


def test_dimensions_that_differ_in_sigma_alone_are_called_concentric():
    """All means are one: sigma alone tells the points apart, and no dimension is active."""
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64).repeat(50)[:, None].expand(100, 2).clone()
    sigma[:, 1] = 1.0
    found = report(DiagonalGaussian(torch.zeros_like(sigma), sigma))
    # log(E sigma^2) - E log sigma^2 = log(2.125): far more than the 1% that counts.
    assert (found.latents.active, found.latents.concentric) == (0, 1)
    assert found.to_json()["latents"]["concentric"] == 1
    assert found.rate.exact.nats > 0.1
    assert "0 of 2 dimensions active, 1 concentric" in repr(found)
