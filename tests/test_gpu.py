"""What only a GPU can show: the numbers of the CPU, no wait for the device, the same bits in every
run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import ATTACKS, attack
from paradise_cli.attacks.audit.calibration import EPS, KNOWN
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.lane_batch import _Block
from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.machine import full_fp32
from paradise_cli.core.randomness import generator
from paradise_cli.data import DATASETS, Batch
from paradise_cli.evaluation.certify import certify
from paradise_cli.perturbations.threat import NORMS
from paradise_cli.runs.selftest import CHECKS
from paradise_cli.training.step import Step
from tests.attack_cases import attacked, fallen
from tests.sampler_cases import SETTINGS, drawn, keys, sampler, smooth_images
from tests.test_attacks import CASES
from tests.test_device_ready import RATES, recipe

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]
GPU = torch.device("cuda")
RADIUS = {"linf": 0.1, "l2": 1.0}  # about half of the digits fall
MEANS = torch.randn(10, 16, generator=generator(0, "means"))
LATENT = [case[:2] for case in CASES if case.attack.startswith("latent")]
PIXEL = [case[:2] for case in CASES if not case.attack.startswith("latent")]
# Square and random search ask ahead.
STEPPING = [case for case in PIXEL if case[0] not in ("square", "random_search")] + LATENT


def digits(n: int) -> tuple[Tensor, Tensor]:
    test = DATASETS["digits"](None).test
    assert test is not None
    (pixels,) = test.fetch(torch.arange(n), n, (), False)
    return pixels.float() / 255, test.labels[:n, 0]


@contextmanager
def never_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_fp32_is_no_tf32() -> None:
    layer, images = nn.Conv2d(64, 64, 3).to(GPU), torch.rand(8, 64, 16, 16, device=GPU)
    with torch.no_grad(), full_fp32(GPU):
        exact = layer.double()(images.double())
        found = layer.float()(images)
    # Of 576 products, each rounded to 24 bits; TF32 keeps 11 of them.
    assert float((found - exact).abs().max() / exact.abs().max()) < 5e-6


def test_an_attack_runs_without_tf32() -> None:
    net, seen = network("robust").to(GPU), set()

    def watched(images: Tensor) -> Tensor:
        seen.add(torch.backends.cudnn.allow_tf32)
        logits: Tensor = net(images)
        return logits

    attack(watched, *digits(4), eps=0.1, suite="quick", device=GPU, audited=1)
    assert seen == {False}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sampler_draws_what_it_draws_on_the_cpu_and_never_waits(name: str) -> None:
    chosen, images = sampler(name), smooth_images(16)
    there, its_keys = images.to(GPU), keys(16).to(GPU)
    drawn(chosen, there, its_keys)  # what is loaded at first is not the sampler's
    with never_waiting():
        views = drawn(chosen, there, its_keys)
    # On average: a frequency half-way between two of JPEG's steps may go to the other one.
    assert float((views.cpu() - drawn(chosen, images, keys(16))).abs().mean()) < 1e-4


@pytest.mark.parametrize("rate", RATES)
def test_a_training_step_gives_the_numbers_of_the_cpu(rate: str) -> None:
    chosen = recipe(rate)
    info = build_info(chosen)
    images = torch.rand(8, *info.shape, generator=generator(0, "step"))
    found = []
    for device in (torch.device("cpu"), GPU):
        model = build_model(chosen, info).to(device).train()
        objective = build_objective(chosen, info).to(device).train()
        optimizer = build_optimizer(chosen, model.parameters(), objective.parameters())
        step = Step(model, objective, optimizer, build_plan(chosen, model, device), device)
        rows = torch.arange(8, device=device)
        with full_fp32(device):
            terms = step(Batch(images.to(device), rows[:, None], rows), 0)
        slopes = [
            weight.grad.flatten().cpu() for weight in model.parameters() if weight.grad is not None
        ]
        found.append((terms["loss"].cpu(), torch.cat(slopes)))
    (loss, slope), (same_loss, same_slope) = found
    torch.testing.assert_close(same_loss, loss, rtol=1e-4, atol=1e-4)
    assert float((same_slope - slope).norm() / slope.norm()) < 1e-3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("name", "hyper"), PIXEL, ids=str)
def test_an_attack_fells_what_it_fells_on_the_cpu(
    name: str, hyper: dict[str, Any], norm: str
) -> None:
    images, labels = digits(60)
    made = ATTACKS[name](NORMS[norm](RADIUS[norm]), **hyper)
    on_cpu = fallen(attacked(made, network("robust"), images, labels), 60)
    with full_fp32(GPU):
        outcomes = attacked(
            made, network("robust").to(GPU), images, labels, compute=Compute(GPU, 64)
        )
    # Rounding decides a few close calls otherwise.
    assert int((fallen(outcomes, 60) != on_cpu).sum()) <= 2
    points = torch.stack([outcome.point for outcome in outcomes if outcome.succeeded])
    classes = labels[[outcome.job.image for outcome in outcomes if outcome.succeeded]]
    logits = network("robust")(points)
    gap = logits.amax(1) - logits.gather(1, classes[:, None])[:, 0]
    assert bool((gap > -1e-4).all())


@pytest.mark.parametrize(
    ("name", "hyper"), STEPPING, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_attack_never_waits(
    name: str, hyper: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits(40)
    net = network("encoder").to(GPU)
    means = {"means": MEANS} if name == "latent_towards" else {}
    made = ATTACKS[name](NORMS["linf"](0.02), **hyper, **means)
    attacked(made, net, images, labels, compute=Compute(GPU, 64))  # what is made once may wait
    advance = _Block.advance

    def watched(block: _Block) -> None:
        with never_waiting():
            advance(block)

    monkeypatch.setattr(_Block, "advance", watched)
    assert attacked(made, net, images, labels, compute=Compute(GPU, 64))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_autoattack_fells_on_a_cpu_falls(precision: str) -> None:
    images, labels = digits(200)
    net = network("robust")
    found = attack(net.to(GPU), images, labels, eps=EPS, precision=precision, audited=1)
    assert int(found.standing.sum()) <= len(images) - len(KNOWN) + 1
    wrong = network("robust")(found.adversarial).argmax(1) != labels
    assert int((wrong == found.standing).sum()) <= 1  # a close call on another device
    again = attack(net, images, labels, eps=EPS, precision=precision, audited=1, batch_size=2048)
    assert torch.equal(found.adversarial, again.adversarial)


@pytest.mark.parametrize("name", ["zero_gradient", "quantiser", "large_logits", "jpeg", "robust"])
def test_the_audit_says_what_it_says_on_the_cpu(name: str) -> None:
    images, labels = digits(40)
    function: Any = network("robust").to(GPU)
    if name != "robust":
        function = CANARIES[name](CANARIES[name].twin().to(GPU))
    found = attack(function, images, labels, eps=0.1, suite="quick", device=GPU)
    assert found.verdict == ("not detected" if name == "robust" else "obfuscated")


@pytest.mark.parametrize(("name", "bound", "measure"), CHECKS, ids=[check[0] for check in CHECKS])
def test_the_selftest_passes(name: str, bound: float, measure: Any) -> None:
    assert measure(GPU) <= bound


def test_a_certificate_is_that_of_the_cpu() -> None:
    """The noise is the same there; this classifier compares pixels and rounds nothing."""
    images, labels = digits(20)

    def brightest(images: Tensor) -> Tensor:
        return images.flatten(1)[:, 20:30]

    one, other = (
        certify(brightest, images, labels, sigma=0.1, samples=1000, device=device).images
        for device in ("cpu", GPU)
    )
    assert one == other and any(not image.abstains for image in one)
