"""A step that is ready for a GPU: no wait for the device, no graph break, no CPU tensor left
behind.
"""

import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from paradise_cli.attacks.session.inputs import device_of
from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core import processes
from paradise_cli.core.errors import UsageError
from paradise_cli.core.machine import (
    choose_device,
    choose_precision,
    fast_bf16,
    fast_layout,
)
from paradise_cli.data import Batch, batches, synthetic
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.training.checkpoint import State
from paradise_cli.training.step import Step
from tests.sampler_cases import SETTINGS, drawn, keys, sampler

CPU = torch.device("cpu")
RATES = ["{q: batch, gradient: full}", "{q: batch, gradient: paper}", "{q: batch, gradient: path}"]
RATES += ["{q: fitted}", "{q: fitted, covariance: diagonal}", "{q: fixed}", "{q: pairwise}"]
RATES += [f"{{q: bank, size: 20, gradient: {gradient}}}" for gradient in ("full", "paper", "path")]
RATES += ["{q: mixture}", "{q: mixture, gradient: path}", "{q: vamp, components: 5}"]


class NoWaiting(TorchDispatchMode):
    """Fails on every operation that makes the host wait for the device.

    `host` are tensors that live on the host on every device: an optimiser's step counts.
    """

    def __init__(self, host: list[Tensor]) -> None:
        super().__init__()
        self._host = {t.data_ptr() for t in host}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        waits = name in (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::masked_select",
            "aten::equal",
        )
        if name == "aten::index":
            waits = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if waits and args[0].data_ptr() not in self._host:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def recipe(rate: str, *more: str) -> Recipe:
    small = [
        "model.backbone={name: preact_resnet, depth: 8}",
        "model.latent_dim=4",
        "train.precision=fp32",
    ]
    augment = "data.augment=[{name: crop, pad: 1}, {name: crop, pad: 1, mode: reflect}, flip]"
    return load_recipe("digits", [*small, augment, f"objective.rate={rate}", *more]).recipe


def test_the_mode_catches_what_it_should() -> None:
    with NoWaiting([]), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).item()
    with NoWaiting([]), pytest.raises(AssertionError, match="index"):
        torch.ones(2)[torch.tensor([True, False])]


def training(chosen: Recipe) -> tuple[Step, Iterator[Batch]]:
    """A step of this recipe, and three batches for it."""
    info = build_info(chosen)
    model, objective = build_model(chosen, info).train(), build_objective(chosen, info).train()
    plan = build_plan(chosen, model, CPU)
    optim = build_optimizer(chosen, model.parameters(), objective.parameters())
    data = batches(
        synthetic(info, 24).train,
        order=torch.arange(24),
        batch_size=8,
        device=CPU,
        augment=plan.augment,
    )
    return Step(model, objective, optim, plan, CPU), data


@pytest.mark.parametrize(
    ("rate", "optimizer"),
    [*((rate, "sgd") for rate in RATES), (RATES[0], "adam"), (RATES[0], "adamw")],
)
def test_a_training_step_never_waits(rate: str, optimizer: str) -> None:
    step, data = training(recipe(rate, f"optim={{name: {optimizer}, lr: 0.01, clip: 1.0}}"))
    state = State.new(CPU)

    def take(number: int) -> None:
        state.observe(step(next(data), number))

    take(0)  # makes the optimiser's state
    with NoWaiting([entry["step"] for entry in step.optimizer.state.values() if "step" in entry]):
        take(1)
        take(2)
    assert state.totals.isfinite().all() and state.means(3)["loss"] > 0


def test_a_training_step_formats_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    step, data = training(recipe(RATES[0]))
    step(next(data), 0)  # what torch loads at first is not the step's
    monkeypatch.setattr(traceback, "format_stack", lambda *_, **__: pytest.fail("formatted"))
    step(next(data), 1)
    with pytest.raises(pytest.fail.Exception):
        torch.manual_seed(0)  # the mode of this test catches what it should


@pytest.mark.parametrize(
    ("device", "precision", "layout"),
    [
        ("cpu", "fp32", torch.channels_last),
        ("cpu", "bf16", torch.channels_last),
        ("cuda", "bf16", torch.channels_last),
        ("cuda", "fp32", torch.contiguous_format),
    ],
)
def test_convolutions_are_laid_out_as_they_are_fast(
    device: str, precision: Any, layout: Any
) -> None:
    convolution, other = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Linear(3, 4)
    assert fast_layout(torch.device(device), precision, other, convolution) == layout
    assert fast_layout(torch.device(device), precision, other) == torch.contiguous_format


@pytest.mark.parametrize(
    ("cpu", "fast"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bf16_is_chosen_where_a_cpu_is_faster_at_it(
    cpu: dict[str, Any], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert fast_bf16(CPU) is fast and choose_precision("auto", CPU) == ("bf16" if fast else "fp32")


@pytest.mark.parametrize(
    ("rank", "name", "expected"),
    [
        (None, "auto", "cuda"),
        ("0", "auto", "cuda:0"),
        ("1", "cuda", "cuda:1"),
        ("2", "cuda", "cuda:0"),
        ("1", "cuda:0", "cuda:0"),
        ("1", "cpu", "cpu"),
    ],
)
def test_each_process_has_a_gpu_of_its_own(
    rank: str | None, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name) == torch.device(expected)
    assert device_of(nn.Linear(1, 1), name) == torch.device(expected)


@pytest.mark.parametrize(
    "name", ["meta", "xla", "vulkan", "hpu", "privateuseone", "mps", "cpu:1", "cuda:2", "tpu", ""]
)
def test_devices_that_are_not_there_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=f"^--device {name}: "):
        choose_device(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE=abc in the environment is no number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE=-1 in the environment is no number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment"),
        ({"WORLD_SIZE": "9" * 30}, "9 in the environment is no number"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 in the environment, and no RANK"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK=x in the environment is no number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 in the environment, of WORLD_SIZE=2"),
        ({"RANK": "1"}, "RANK=1 in the environment, of WORLD_SIZE=1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x in the environment is no number"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "and no MASTER_ADDR and no MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "x"},
         "MASTER_PORT=x in the environment is no number"),
    ],
)  # fmt: skip
def test_leftovers_of_another_job_are_one_message(
    given: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message) as said:
        processes.local_rank()
        processes.join()
    assert "unset what is left of another job" in str(said.value)


@pytest.mark.parametrize("of_the_user", ["nothing", "high", "new", "all"])
def test_only_a_gpu_needs_to_be_told_of_fp32_and_is_left_as_it_was(of_the_user: str) -> None:
    """In a process of its own, as such settings of torch cannot all be taken back."""
    script = f"""
import torch
from torch._C import _get_cublas_allow_tf32, _get_cudnn_allow_tf32
from paradise_cli.core.machine import full_fp32
cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
if {of_the_user!r} == "high":
    torch.set_float32_matmul_precision("high")
if {of_the_user!r} == "new":
    matmul.fp32_precision, cudnn.conv.fp32_precision = "tf32", "ieee"
if {of_the_user!r} == "all":
    torch.backends.fp32_precision = "tf32"
def found():
    return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic
before = found()
with full_fp32(torch.device("cpu")):
    assert found() == before
with full_fp32(torch.device("cuda")):
    assert found() == ("ieee", "ieee", True)
    assert not _get_cublas_allow_tf32() and not _get_cudnn_allow_tf32()
assert found() == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


NEIGHBOURS = [
    "views=[{name: corner, eps: 0.1}, {name: adversarial, eps: 0.1, loss: both, around: 0},"
    " {name: adversarial, eps: 0.1, loss: linearity, batch_norm: batch}]",
    "objective.matching={distance: symmetric_kl, gamma: 10, warmup_steps: 100}",
]
"""An adversarial search of each kind, and matching of what it finds."""


def test_a_step_with_adversarial_views_never_waits() -> None:
    step, data = training(recipe("{q: batch}", *NEIGHBOURS, "optim={name: sgd, lr: 0.01}"))
    step(next(data), 0)
    with NoWaiting([]):
        step(next(data), 1)


def test_encoding_never_waits() -> None:
    chosen = recipe("{q: batch}")
    info = build_info(chosen)
    loaded = LoadedModel(build_model(chosen, info).eval(), chosen, info, {}, Path("none"), CPU)
    images = torch.rand(4, *info.shape)
    with torch.no_grad(), NoWaiting([]):
        found = loaded.posterior()(images)
    assert {name: tuple(value.shape) for name, value in found.items()} == dict.fromkeys(
        found, (4, 4)
    )


@pytest.mark.parametrize("rate", [*RATES, "matching"])
def test_a_step_compiles_whole_and_once(rate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The residual network with the first and the last, which encodes images of its own, and its
    # gradients: slow to compile.
    whole = rate in (RATES[0], RATES[-1])
    small = [] if whole else ["model.backbone={name: mlp, hidden: [8]}"]
    real, backend = torch.compile, "aot_eager" if whole else "eager"
    monkeypatch.setattr(torch, "compile", lambda f, **options: real(f, backend=backend, **options))
    torch._dynamo.reset()
    counters.clear()
    # The weight of matching changes with each step.
    more = NEIGHBOURS if rate == "matching" else [f"objective.rate={rate}"]
    chosen = recipe("{q: batch}", "train.compile=true", *small, *more)
    info = build_info(chosen)
    model, objective = build_model(chosen, info).train(), build_objective(chosen, info).train()
    plan = build_plan(chosen, model, CPU)
    optim = build_optimizer(chosen, model.parameters(), objective.parameters())
    step = Step(model, objective, optim, plan, CPU)
    batch = next(batches(synthetic(info, 8).train, order=torch.arange(8), batch_size=8, device=CPU))
    for number in range(3):
        terms = step(batch, number)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 2  # one, and at most one recompilation


@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check`:FutureWarning")  # torch's own
@pytest.mark.parametrize(
    "more",
    [
        ["objective.alpha=0", "model.stochastic=false"],
        [
            "objective.alpha=1",
            "objective.matching={distance: {name: l1}, gamma: 1}",
            "views=[image, {name: corner, eps: 0.1}]",
        ],
    ],
    ids=["distortion alone", "all terms"],
)
def test_a_compiled_step_is_the_step(more: list[str]) -> None:
    """Weights of 1 and sums of one part are what a compiler may leave out."""
    torch._dynamo.reset()
    settings = ["model.backbone={name: mlp, hidden: [8]}", "optim={name: sgd, lr: 0.1}", *more]
    found = []
    for compiled in ("true", "false"):
        chosen = recipe("{q: fixed}", f"train.compile={compiled}", *settings)
        step, data = training(chosen)
        terms = step(next(data), 0)
        found.append([*step.model.parameters(), *terms.values()])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_the_objective_stays_on_its_device(rate: str) -> None:
    chosen = recipe(rate)
    info = build_info(chosen)
    with FakeTensorMode(), torch.device("cuda"):
        model, objective = build_model(chosen, info), build_objective(chosen, info)
        images, labels = torch.rand(8, *info.shape), torch.zeros(8, 1, dtype=torch.int64)
        loss, terms = objective.train()(model, [images, images], labels, torch.randn(16, 4))
    assert loss.device.type == "cuda"
    assert {value.device.type for value in terms.values()} == {"cuda"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sampler_never_waits_compiles_whole_and_stays_on_its_device(name: str) -> None:
    chosen, images = sampler(name), torch.rand(4, 3, 8, 8)
    with NoWaiting([]):
        eager = drawn(chosen, images, keys(4))
    torch._dynamo.reset()
    # To trace it is what can fail: `eager` then runs the graph as it is.
    compiled = torch.compile(drawn, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(chosen, images, keys(4)), eager)
    with FakeTensorMode(), torch.device("cuda"):
        views = drawn(chosen, torch.rand(4, 3, 8, 8), torch.arange(4))
    assert views.device.type == "cuda" and views.shape == images.shape
