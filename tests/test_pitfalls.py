"""Where other libraries surprise, ours does what docs/pitfalls.md says; and that page is whole."""

import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor, nn

from paradise_cli.attacks import ATTACKS, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.report import on_lattice
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.core.storage import save_tensors
from paradise_cli.data import Preprocessing
from paradise_cli.data.images import decode
from paradise_cli.evaluation.metrics import judge
from paradise_cli.evaluation.posterior_files import read_posterior
from paradise_cli.information.blahut_arimoto import blahut_arimoto
from paradise_cli.information.known_sources import bernoulli
from paradise_cli.perturbations.threat import L2, Linf
from tests.attack_cases import attacked, balanced, eps_that_fells_half, fallen

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
FINDINGS = sorted((ROOT / "findings").iterdir())


# The page and its scripts


def test_there_are_findings() -> None:
    assert len(FINDINGS) >= 20 and {path.suffix for path in FINDINGS} == {".sh"}


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_a_finding_can_be_run_and_is_named_on_the_page(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    assert os.access(path, os.X_OK)
    assert f"(../findings/{path.name})" in PAGE


def test_each_test_that_the_page_names_exists() -> None:
    names = re.findall(r"`(test_\w+)`", PAGE)
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    missing = [name for name in names if f"def {name}(" not in text]
    assert len(names) >= 20 and missing == []


# Arrays and files


def test_tensors_in_fortran_order_are_saved_as_they_are(tmp_path: Path) -> None:
    z = torch.arange(6.0).reshape(2, 3).T
    save_tensors(tmp_path / "z.safetensors", {"z": z}, {})
    assert load_file(tmp_path / "z.safetensors")["z"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("layout", ["C", "F"])
def test_posteriors_are_read_in_either_order(layout: str, tmp_path: Path) -> None:
    mean = np.array([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], order=layout)
    np.savez(tmp_path / "z.npz", mu=mean, sigma=mean + 1)
    posterior, _ = read_posterior(tmp_path / "z.npz")
    assert posterior.mu.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert posterior.sigma.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_bfloat16_that_went_through_numpy_is_refused(tmp_path: Path) -> None:
    """1.5 and 2.5 are 0x3FC0 and 0x4020, which is what ml_dtypes leaves in the file."""
    raw = np.array([[0x3FC0], [0x4020]], dtype="<u2").view("V2")
    np.savez(tmp_path / "z.npz", mu=raw, sigma=np.ones((2, 1)))
    with pytest.raises(UsageError, match=r"mu is of type \|V2 \(bfloat16.*float32"):
        read_posterior(tmp_path / "z.npz")


# Attacks


@pytest.fixture
def no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def shortened(stage: Stage) -> Stage:
    """The same attack, with as many steps and queries as a linear classifier needs."""
    short = {name: 30 for name in ("steps", "queries") if name in stage.hyper}
    return replace(stage, hyper={**stage.hyper, **short})


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.usefixtures("no_audit")
def test_autoattack_of_two_and_three_classes_is_exact(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = SUITES["standard"].stages
    assert [stage.attack for stage in stages] == ["apgd", "apgd_targeted", "fab_targeted", "square"]
    monkeypatch.setitem(SUITES, "standard", Suite(tuple(map(shortened, stages))))
    linear = balanced(classes, 0)
    images, labels = linear.problem(8, 0)
    radius = linear.radius(images, labels, "linf")
    eps = eps_that_fells_half(radius, Linf).eps
    report = attack(linear, images, labels, eps=eps, suite="standard")
    assert torch.equal(report.standing, radius > eps)
    assert all(row.attacked for row in report.stages)


class Normed(nn.Module):
    """A small network with batch norm that has seen images, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        draw = generator(0, "normed")
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten()
        )
        self.head = nn.Linear(64, 3)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw) / 4)
            self(torch.rand(32, 1, 6, 6, generator=draw))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(images))
        return logits


@pytest.mark.usefixtures("no_audit")
def test_an_attack_leaves_statistics_modes_and_gradients_alone() -> None:
    network = Normed().eval()
    images = torch.rand(6, 1, 6, 6, generator=generator(0, "images"))
    labels = network(images).argmax(1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = attack(network, images, labels, eps=0.2, suite="quick")
    assert report.robust_accuracy.value < 1  # there were gradients, and they were followed
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(part.training for part in network.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_batch_norm_in_training_mode_is_refused_before_it_sees_an_image() -> None:
    network = Normed().train()
    norm = network.layers[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    before = norm.running_mean.clone()
    with pytest.raises(UsageError, match="training mode"):
        attack(network, torch.rand(4, 1, 6, 6), torch.zeros(4, dtype=torch.int64), eps=0.1)
    assert torch.equal(norm.running_mean, before) and network.training


@pytest.mark.parametrize("scale", [1 / 16, 1, 16])
def test_ten_steps_of_pgd_reach_the_corner_at_any_eps(scale: float) -> None:
    """A linear classifier's decisions scale with the contrast of its images, and so must steps."""
    linear = balanced(3, 0)
    images, labels = linear.problem(16, 0)
    linear.weight, linear.bias = linear.weight / scale, linear.bias * 0
    middle = 0.5 * torch.ones_like(images)
    images = middle + scale / 16 * (images - middle)
    labels = linear(images).argmax(1)
    radius = linear.radius(images, labels, "linf")
    threat = eps_that_fells_half(radius, Linf)
    outcomes = attacked(ATTACKS["pgd"](threat, steps=10), linear, images, labels)
    assert torch.equal(fallen(outcomes, 16), radius < threat.eps)


@pytest.mark.parametrize("name", ["pgd", "apgd", "apgd_targeted", "fab_targeted"])
def test_log_probabilities_are_attacked_as_logits_are(name: str) -> None:
    """They differ by a constant, below which every output may lie."""
    linear = balanced(3, 0)
    images, labels = linear.problem(16, 0)
    radius = linear.radius(images, labels, "linf")
    threat = eps_that_fells_half(radius, Linf)
    found = [
        fallen(attacked(ATTACKS[name](threat, steps=20), function, images, labels), 16)
        for function in (linear, lambda x: linear(x).log_softmax(1))
    ]
    # Of the eight that can fall, cross-entropy leaves one: it does not aim at the nearest class.
    assert torch.equal(*found) and found[0].sum() >= 7


@pytest.mark.parametrize("name", ["pgd", "apgd", "apgd_targeted"])
def test_black_and_white_pixels_are_searched(name: str) -> None:
    """Between two classes each pixel moves as their weights differ, but for those at their end."""
    linear = balanced(2, 0)
    images = (linear.problem(16, 0)[0] > 0.5).float()
    labels = linear(images).argmax(1)
    outcomes = attacked(ATTACKS[name](Linf(1e-4), steps=10), linear, images, labels)
    assert len(outcomes) >= 16 and not any(outcome.succeeded for outcome in outcomes)
    for outcome in outcomes:
        image, label = images[outcome.job.image], int(labels[outcome.job.image])
        uphill = (linear.weight[1 - label] - linear.weight[label]).view_as(image).sign()
        assert torch.equal(outcome.point != image, uphill == 1 - 2 * image)


def test_what_the_caller_draws_goes_on_through_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    monkeypatch.setitem(
        SUITES, "quick", Suite((Stage("pgd_rand", {"steps": 2}), Stage("square", {"queries": 5})))
    )
    linear = balanced(3, 0)
    images, labels = linear.problem(16, 0)
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    attack(linear, images, labels, eps=0.1, suite="quick")
    assert torch.equal(torch.randn(4), expected)


def test_bytes_of_adversarial_images_lie_in_the_ball() -> None:
    """Truncated, what float32 puts a hair below a level would lie 9 levels away."""
    draw = generator(0, "levels")
    levels = torch.randint(20, 236, (16, 3, 8, 8), generator=draw)
    images = levels / 255
    signs = torch.randint(0, 2, levels.shape, generator=draw) * 2 - 1
    corners = images + 8 / 255 * signs
    found = (on_lattice(corners, images, Linf(8 / 255)) * 255).round().long()
    assert torch.equal(found, levels + 8 * signs)
    assert ((corners * 255).to(torch.uint8).long() - levels).abs().max() == 9


def test_bytes_of_images_between_the_levels_are_rounded_towards_them() -> None:
    draw = generator(0, "between")
    images = 0.1 + 0.8 * torch.rand(16, 3, 8, 8, generator=draw)
    signs = torch.randint(0, 2, images.shape, generator=draw) * 2 - 1
    found = on_lattice(images + 8 / 255 * signs, images, Linf(8 / 255))
    assert (found * 255 - (found * 255).round()).abs().max() < 1e-4
    away = (found - images).abs() * 255
    assert away.max() < 8.001 and away.min() > 7 - 0.001  # the last level before the face


def test_bytes_of_short_changes_in_l2_move_towards_the_image_alone() -> None:
    """1.6 levels become 2 and leave the ball, so that all change towards the image: 0.3 become 0,
    where a level up would be further away than the point.
    """
    images = torch.full((1, 1, 1, 4), 100 / 255)
    points = images + torch.tensor([1.6, 0.3, -0.3, 0.0]) / 255
    threat = L2(float((points - images).norm()))
    found = on_lattice(points, images, threat) * 255
    assert found.round().flatten().tolist() == [101, 100, 100, 100]
    # No 8-bit image lies in this ball around 100.4: what is nearest to the image is 100.
    images, points = images + 0.4 / 255, images + 0.55 / 255
    for near in (L2(0.3 / 255), Linf(0.3 / 255)):
        found = on_lattice(points, images, near) * 255
        assert found.round().flatten().tolist() == [100] * 4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bytes_outside_a_ball_that_holds_none_are_wrong_only_where_they_are_misread(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images between the levels, and a ball too small for any attack: all are read rightly."""
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("fgsm"),)))
    linear = balanced(3, 0)
    images, _ = linear.problem(16, 0)
    images = ((images * 255).round() + 0.4) / 255
    report = attack(linear, images, linear(images).argmax(1), eps=1e-5, norm=norm, suite="quick")
    assert report.robust_accuracy.value == report.lattice_accuracy.value == 1


# Numbers


def test_a_confident_mistake_has_its_full_price() -> None:
    """46.05 nats; a float32 probability, as scikit-learn's log_loss clips it, could cost 15.94."""
    logits = torch.tensor([[0.0, -math.log(1e-20)]])
    assert judge(logits, torch.tensor([0])).nll.item() == pytest.approx(20 * math.log(10))


@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_slopes_are_in_nats(slope: float) -> None:
    """A fair coin: D = 1 / (1 + e^slope), where slopes in bits would give 1 / (1 + 2^slope)."""
    slopes = torch.tensor([slope], dtype=torch.float64)
    (point,) = blahut_arimoto(bernoulli(0.5).source, slopes, tolerance=1e-9).points
    assert point.distortion == pytest.approx(1 / (1 + math.exp(slope)), abs=1e-6)


def test_enlarging_bytes_brightens_as_pillow_does(tmp_path: Path) -> None:
    """Twice the size in two passes, each of which rounds halves up.

    Of a pass's four remainders 0, 1/4, 1/2 and 3/4 the errors are 0, -1/4, 1/2 and 1/4: 1/8 on
    average, so 1/4 after two.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    found = decode(tmp_path / "noise.png", Preprocessing(1, 256, (256, 256)))[0].astype(float)
    pillows = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR)
    assert found.mean() == pytest.approx(np.asarray(pillows).mean(), abs=0.005)
    # Edges apart, which repeat, enlarging keeps the mean: compare with the same in float.
    floats = torch.from_numpy(pixels)[None, None].double()
    exact = nn.functional.interpolate(floats, (256, 256), mode="bilinear", antialias=True)
    assert found.mean() - exact.mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept() -> None:
    program = """
import resource

from paradise_cli.core.processes import keep_freed_memory

keep_freed_memory()
for size in (1, 100, 1, 100):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(size * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    command = [sys.executable, "-c", program]
    count = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # 25,600 pages were taken for the first block of 100 MiB, and are there for the second.
    assert int(count) < 10
