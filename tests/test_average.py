"""Averaged weights: of what they are an average, that they are alive at once, and their files."""

import copy
import json
import math
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.build import (
    build_average,
    build_data,
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
)
from paradise_cli.core.modes import running_statistics_anew
from paradise_cli.core.randomness import permutation
from paradise_cli.data import batches
from paradise_cli.evaluation.validation import metrics_of
from paradise_cli.inference.loading import load
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.base import Backbone, linear
from paradise_cli.models.frozen import Frozen
from paradise_cli.models.weights import read_model
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.runs.estimate import dry_run
from paradise_cli.training.average import Average
from paradise_cli.training.run_folder import RunFolder
from paradise_cli.training.step import SETTLING, Step

from .test_device_ready import NoWaiting
from .test_training import assert_same, recipe, run

AVERAGED = "train.average={share: 0.2}"
ATTACK = "train.validate={attack: {eps: 0.1, steps: 2}, images: 50}"
CPU = torch.device("cpu")
CONVOLUTIONS = "model.backbone={name: preact_resnet, depth: 8}"


def walked(window: float, steps: int) -> tuple[list[Tensor], Tensor]:
    """A weight in double that jumps about, after 0, 1, 2, ... steps, and its average at the end."""
    model = build_model(recipe(), build_info(recipe())).double()
    average = Average(model, window)
    values = [average.model.mu.bias.clone()]
    for step in range(1, steps + 1):
        draw = torch.Generator().manual_seed(step)
        values.append(torch.randn(3, generator=draw, dtype=torch.float64))
        model.mu.bias.data.copy_(values[-1])
        average.update(step)
    return values, average.model.mu.bias


def test_while_the_window_grows_the_average_has_a_closed_form() -> None:
    """The weights after step t have the share C(t - 1, 9) / C(n, 10), and the start has none."""
    n = 60
    values, average = walked(math.inf, n)
    shares = [math.comb(t - 1, 9) / math.comb(n, 10) for t in range(1, n + 1)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * value for share, value in zip(shares, values[1:], strict=True))
    torch.testing.assert_close(average, expected)


def test_with_the_full_window_the_average_is_the_weighted_sum() -> None:
    """Each step keeps 1 - 1/3 of what was there, from step 30 on, when t / 10 has become 3."""
    n, window = 50, 3
    values, average = walked(window, n)
    keep = [1 - 1 / max(1, min(t / 10, window)) for t in range(1, n + 1)]
    assert keep[:10] == [0] * 10 and keep[29:] == [1 - 1 / 3] * 21
    shares = [(1 - keep[t - 1]) * math.prod(keep[t:]) for t in range(1, n + 1)]
    expected = sum(share * value for share, value in zip(shares, values[1:], strict=True))
    torch.testing.assert_close(average, expected)


def test_the_window_is_a_share_of_the_run() -> None:
    """Of 50 epochs of 12 steps, 5%: 30 steps; twice the epochs, twice the window."""
    model = build_model(recipe(), build_info(recipe()))
    for epochs, window in ((50, 30), (100, 60)):
        chosen = recipe("train.average={}", f"train.epochs={epochs}")
        average = build_average(chosen, model, 1293)
        assert average is not None and average.window == pytest.approx(window)
        assert average.weight(10**9) == pytest.approx(1 / window)
    assert build_average(recipe(), model, 1293) is None


class Normalised(Backbone):
    """Two layers with batch normalisation, for digits of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(),
        )  # fmt: skip
        self.out_features = 32

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def as_copied_recipes_do(own: StochasticEncoder, model: StochasticEncoder) -> None:
    """Decay 0.9995 from the random net on, batch norm's statistics too (anchors: FastAT)."""
    old, new = (
        [t for t in chain(one.parameters(), one.buffers()) if t.is_floating_point()]
        for one in (own, model)
    )
    with torch.no_grad():
        torch._foreach_lerp_(old, new, 1 - 0.9995)


def test_the_average_is_alive_after_500_steps_of_a_long_run() -> None:
    """At least 0.8 of the plain accuracy; copied recipes, as a check of this test, are dead."""
    data = build_data(recipe())
    assert data.validation is not None
    train, validation = (
        next(batches(split, order=torch.arange(len(split)), batch_size=len(split), device=CPU))
        for split in (data.train, data.validation)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = {"digit": linear(8, 10, (1, 8, 8))}
        model = StochasticEncoder(
            Normalised(), heads, latent_dim=8, in_shape=(1, 8, 8), stochastic=False
        )
    average, copied = Average(model, window=0.05 * 20_000), copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def accuracy(judged: StochasticEncoder) -> float:
        found = judged.eval().classifier()(validation.images).argmax(1)
        return (found == validation.labels[:, 0]).double().mean().item()

    for step in range(500):
        rows = permutation(len(train.images), "alive", step)[:32]
        logits = model.train().decode(model.encode(train.images[rows]).mu)["digit"]
        loss = nn.functional.cross_entropy(logits, train.labels[rows, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(step + 1)
        as_copied_recipes_do(copied, model)
    plain = accuracy(model)
    assert plain > 0.9
    assert accuracy(average.model) >= 0.8 * plain
    assert accuracy(copied) < 0.8 * plain


def test_batch_norm_statistics_are_those_of_the_model() -> None:
    model = build_model(recipe(CONVOLUTIONS), build_info(recipe())).train()
    average = Average(model, 100)
    for step in range(1, 30):
        for weight in model.parameters():
            weight.data.add_(0.01)
        model.encode(torch.rand(8, 1, 8, 8))
        average.update(step)
    assert_same(dict(average.model.named_buffers()), dict(model.named_buffers()))
    counted = average.model.get_buffer("backbone.norm.num_batches_tracked")
    assert counted.item() == 29
    # The weights are not those of the model, and never learn by themselves.
    assert not torch.equal(average.model.mu.weight, model.mu.weight)
    assert not average.model.training
    assert not any(weight.requires_grad for weight in average.model.parameters())


def test_settled_statistics_are_means_over_a_few_batches() -> None:
    chosen = recipe(CONVOLUTIONS, AVERAGED, "views=[image, {name: corner, eps: 0.1}]")
    data, info = build_data(chosen), build_info(chosen)
    model, objective = build_model(chosen, info), build_objective(chosen, info)
    average = build_average(chosen, model, len(data.train))
    optimizer = build_optimizer(chosen, model.parameters())
    step = Step(model, objective, optimizer, build_plan(chosen, model, CPU), CPU, average)
    assert average is not None
    seen: list[Tensor] = []
    norm = average.model.get_submodule("backbone.norm")
    norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].double()))
    plain = {name: each.clone() for name, each in model.named_buffers()}
    given = batches(
        data.train, order=torch.arange(len(data.train)), batch_size=16, device=CPU, train=True
    )
    step.settle(given, 7)
    # Both views of 16 images, and no more batches than are needed.
    assert [len(each) for each in seen] == [32] * SETTLING
    assert int(next(given).index[0]) == 16 * SETTLING
    found = dict(norm.named_buffers())
    means = torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0)
    variances = torch.stack([each.var((0, 2, 3)) for each in seen]).mean(0)
    torch.testing.assert_close(found["running_mean"], means.float())
    torch.testing.assert_close(found["running_var"], variances.float())
    assert_same(dict(model.named_buffers()), plain)
    assert not average.model.training and getattr(norm, "momentum", None) == 0.1


def test_no_more_images_settle_statistics_at_once_than_take_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        Step, "settle", lambda self, train, number: sizes.append(len(next(train).images))
    )
    fixed = ["objective.rate={q: fixed}", "train.batch_size=64", "train.epochs=2"]
    run(tmp_path, AVERAGED, *fixed, "train.accumulate=4")
    assert sizes == [16, 16]


def test_frozen_statistics_are_not_estimated_anew() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    backbone = Frozen(network.eval(), 2)
    with running_statistics_anew(backbone):
        backbone(5 + torch.rand(8, 1, 2, 2))
    kept = dict(backbone.named_buffers())
    assert_same(
        {name: kept[f"network.1.{name}"] for name in ("running_mean", "running_var")},
        {"running_mean": torch.zeros(4), "running_var": torch.ones(4)},
    )


def test_an_update_never_waits_for_the_device() -> None:
    model = build_model(recipe(CONVOLUTIONS), build_info(recipe()))
    average = Average(model, 100)
    with NoWaiting([]):
        for step in range(1, 4):
            average.update(step)


def test_both_kinds_are_left_last_and_best(tmp_path: Path) -> None:
    listener = run(tmp_path, AVERAGED, ATTACK, "train.epochs=4")
    folder = RunFolder(tmp_path)
    result = json.loads(folder.result.read_text())
    assert [row["weights"] for row in result["weights"]] == [
        "last plain",
        "last averaged",
        "best plain",
        "best averaged",
    ]
    for row, ((moment, kind), path) in zip(result["weights"], folder.weights.items(), strict=True):
        # The best step is where the record says so, of equal ones that of the least distortion.
        metrics = [metrics_of(kind, record["validation"]) for record in listener.records]
        signs = {"robust": 1, "accuracy": 1, "distortion": -1}
        scores = [
            [sign * each[f"{name}/cross_entropy"] for name, sign in signs.items()]
            for each in metrics
        ]
        index = 3 if moment == "last" else scores.index(max(scores))
        assert row["step"] == listener.records[index]["step"]
        assert row["validation"] == metrics[index]
        assert tmp_path / row["file"] == path
        provenance = read_model(path)[1]["provenance"]
        assert (provenance["weights"], provenance["step"]) == (row["weights"], row["step"])
        assert load(path).label == f"{path} ({moment} {kind} weights, step {row['step']})"
        # What `paradise attack` and its card call the model.
        assert open_classifier(str(path), device="cpu").label == load(path).label
    # Trained as without an average and an attack, which only watch.
    run(tmp_path / "without", "train.epochs=4")
    assert_same(*(read_model(p / "model.safetensors")[0] for p in (tmp_path, tmp_path / "without")))


def test_metrics_of_a_task_that_is_called_averaged_are_not_mixed_up() -> None:
    metrics = {"accuracy/averaged": 0.1, "accuracy/averaged/averaged": 0.2}
    assert metrics_of("plain", metrics) == {"accuracy/averaged": 0.1}
    assert metrics_of("averaged", metrics) == {"accuracy/averaged": 0.2}


def test_a_dry_run_keeps_an_average_too() -> None:
    """Its weights are no parameters of the model."""
    costs = [dry_run(recipe(*more), "cpu", steps=1).parameters for more in ([AVERAGED], [])]
    assert costs[0] == costs[1]
