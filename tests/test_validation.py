"""How the best weights are chosen: by accuracy, or by accuracy under a short attack."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from paradise_cli.build import build_attack, build_info, build_model, build_objective
from paradise_cli.cli import app
from paradise_cli.core.errors import UsageError
from paradise_cli.data import synthetic
from paradise_cli.data.base import MemorySplit
from paradise_cli.evaluation.validation import robust_accuracy, unlabelled_note, validation_of
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.base import Backbone, linear
from paradise_cli.perturbations import SAMPLERS
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.estimate import dry_run
from paradise_cli.training.loop import Validation
from paradise_cli.training.run_folder import RunFolder

from .test_training import recipe

CPU = torch.device("cpu")
ATTACK = "train.validate={attack: {eps: 0.1, steps: 3}, images: 50}"
BOTH = (
    "objective.tasks=[{distortion: {name: cross_entropy}, head: {name: linear}},"
    " {distortion: {name: squared_error}, head: {name: mlp_decoder, hidden: [4]}, weight: 0.5}]"
)
INFO = build_info(recipe())


class Pixels(Backbone):
    """All pixels, as they are."""

    out_features = 64

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def two_classes(weights: Tensor) -> StochasticEncoder:
    """Class 1 where the weighted sum of the centred pixels is above 0: logits 0 and that sum."""
    head = linear(1, 2, (1, 8, 8))
    model = StochasticEncoder(
        Pixels(), {"cross_entropy": head}, latent_dim=1, in_shape=(1, 8, 8), stochastic=False
    )
    with torch.no_grad():
        model.mu.weight.copy_(weights[None])
        model.mu.bias.fill_(-0.5 * float(weights.sum()))
        head.layer.weight.copy_(torch.tensor([[0.0], [1.0]]))  # type: ignore[union-attr, operator]
        head.layer.bias.zero_()  # type: ignore[union-attr, operator]
    return model


def images_at(sums: Tensor, weights: Tensor) -> MemorySplit:
    """Images of grey pixels moved along the sign of the weights, so that the sum is the given one,
    and labelled by its sign.
    """
    moves = sums[:, None] / weights.abs().sum() * weights.sign()
    labels = (sums > 0).long()[:, None]
    return MemorySplit(
        (0.5 + moves).view(-1, 1, 8, 8), labels, [f"{number}" for number in range(len(sums))]
    )


@pytest.mark.parametrize("steps", [1, 5])
def test_robust_accuracy_of_a_linear_model_is_known(steps: int) -> None:
    """An attack within eps moves the sum by eps |w|_1, and breaks those that are nearer to 0."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(64, generator=draw)
    eps, reach = 0.05, 0.05 * float(weights.abs().sum())
    sums = reach * torch.tensor([-2, -1.2, -0.9, -0.5, 0.3, 0.8, 1.1, 1.5])
    split = images_at(sums, weights)
    objective = build_objective(recipe(), INFO)
    assert objective.judged is not None
    model = two_classes(weights)
    attack = SAMPLERS["adversarial"](eps=eps, steps=steps, loss="margin", start="image")
    assert robust_accuracy(model, objective.judged, split, CPU, attack) == 4 / 8
    # Unlabelled images are left out, and images read wrongly count as broken.
    labels = split.labels.clone()
    labels[0], labels[7] = -1, 0
    assert robust_accuracy(model, objective.judged, split.relabel(labels), CPU, attack) == 2 / 7


def test_the_best_are_chosen_by_robust_accuracy_then_accuracy_then_distortion() -> None:
    chosen = recipe(ATTACK, "train.average={}")
    model, other = (build_model(recipe(f"train.seed={seed}"), INFO) for seed in (0, 1))
    objective, split = build_objective(chosen, INFO), synthetic(INFO, 60).validation
    assert split is not None and objective.judged is not None
    modes = [module.training for module in model.train().modules()]
    models = {"plain": model, "averaged": other.eval()}
    found = validation_of(models, objective, split, CPU, build_attack(chosen))()
    assert [module.training for module in model.modules()] == modes
    for kind, ending in (("plain", ""), ("averaged", "/averaged")):
        robust, accuracy, distortion = (
            found.metrics[f"{metric}/cross_entropy{ending}"]
            for metric in ("robust", "accuracy", "distortion")
        )
        assert found.scores[kind] == (robust, accuracy, -distortion)
    # The same images and the same noise, whenever it is asked.
    again = validation_of(models, objective, split, CPU, build_attack(chosen))()
    assert again == found
    # And a model in training can go on: its gradients were neither used nor made.
    assert all(weight.grad is None for weight in model.parameters())
    model(torch.rand(4, 1, 8, 8), torch.zeros(4, 3))[1].sum().backward()
    assert model.mu.weight.grad is not None


def test_as_many_images_are_attacked_as_the_recipe_says() -> None:
    objective, split = build_objective(recipe(), INFO), synthetic(INFO, 60).validation
    model, seen = build_model(recipe(), INFO), set[int]()
    assert split is not None
    split.labels[:30] = -1

    def attack(images: Tensor, labels: Tensor, encoder: object, keys: Tensor) -> Tensor:
        seen.update(keys[labels >= 0].tolist())
        return images

    for count, expected in ((7, 7), (1000, 30)):
        seen.clear()
        found = validation_of({"plain": model}, objective, split, CPU, (attack, count))()
        assert len(seen) == expected
    # Of all labelled ones without an attack robust accuracy is accuracy.
    assert found.metrics["robust/cross_entropy"] == found.metrics["accuracy/cross_entropy"]


def test_the_command_prints_the_four_and_json_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--device", "cpu", "--set", "model.backbone.hidden=[8]"]
    words += ["--set", "train.epochs=3", "--set", ATTACK, "--set", "train.average={}"]
    shown = CliRunner().invoke(app, [*words, "--set", "model.latent_dim=3"])
    assert shown.exit_code == 0, shown.output
    for part in ("best averaged", "last plain", "robust", " validation images"):
        assert part in shown.stdout
    again = CliRunner().invoke(app, [*words, "--set", "model.latent_dim=3", "--json"])
    said = json.loads(again.stdout)
    rows = said["weights"]
    # A tenth of the 1,437 training images is held out.
    assert (said["judged_on"]["split"], said["judged_on"]["n"]) == ("validation", 144)
    assert set(said["judged_on"]["attack"]) == {"eps", "steps", "n"}
    folder = RunFolder(Path("runs/digits"))
    assert rows == json.loads(folder.result.read_text())["weights"]
    assert [(row["weights"], row["file"]) for row in rows] == [
        ("last plain", "model.safetensors"),
        ("last averaged", "averaged.safetensors"),
        ("best plain", "checkpoints/best.safetensors"),
        ("best averaged", "checkpoints/best_averaged.safetensors"),
    ]
    # The best is that of the most robust, of these the most accurate, and of these the surest.
    signs = {"robust/cross_entropy": 1, "accuracy/cross_entropy": 1, "distortion/cross_entropy": -1}
    scores = [
        tuple(sign * each["validation"][name] for name, sign in signs.items())
        for each in folder.records()
    ]
    assert rows[2]["step"] == folder.records()[scores.index(max(scores))]["step"]
    assert all(row["validation"].keys() == signs.keys() for row in rows)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("digits", ["train.validate={attack: {eps: 0}}"], r"validate\.attack\.eps.*greater than 0"),
        ("digits", ["train.validate={attack: {eps: 8}}"], r"train\.validate\.attack\.eps"),
        ("digits", ["train.validate={attack: {eps: 0.1, steps: 0}}"], r"attack\.steps.*at least 1"),
        ("digits", ["train.validate={}"], r"train\.validate\.attack.*required"),
        ("digits", ["train.average={share: 0}"], r"train\.average\.share"),
        ("digits", ["train.average={share: 1.5}"], r"train\.average\.share.*at most 1"),
        ("digits_unsupervised", [ATTACK], r"train\.validate.*needs a task with labels"),
        ("digits", [ATTACK, "data.validation=0"], "none are held out; set data.validation"),
        ("gaussian_source", [ATTACK], r"train\.validate"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_before_data_are_read(
    name: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dry_run(load_recipe(name, overrides).recipe, "cpu", steps=1)


def test_eps_may_be_written_as_a_fraction() -> None:
    chosen = recipe("train.validate={attack: {eps: 8/255}}").train.validate
    assert chosen is not None and chosen.attack.eps == pytest.approx(8 / 255)
    assert (chosen.attack.steps, chosen.images) == (10, 1000)


def test_images_without_a_label_choose_no_best_weights() -> None:
    """Nor is their accuracy 0: only distortions that need no label are left to choose by."""
    split = synthetic(INFO, 60).validation
    assert split is not None
    split.labels[:] = -1
    chosen = recipe(ATTACK)
    objective = build_objective(chosen, INFO)
    models = {"plain": build_model(chosen, INFO)}
    found = validation_of(models, objective, split, CPU, build_attack(chosen))()
    assert found == Validation({}, {})
    text = unlabelled_note(objective, split)
    assert text is not None and text.startswith("no validation image has a label for cross_entropy")
    assert text.endswith("no best weights are chosen")
    both = recipe(BOTH)
    objective, models = build_objective(both, INFO), {"plain": build_model(both, INFO)}
    found = validation_of(models, objective, split, CPU)()
    assert list(found.metrics) == ["distortion/squared_error"]
    assert found.scores == {"plain": (-0.5 * found.metrics["distortion/squared_error"],)}
    text = unlabelled_note(objective, split)
    assert text is not None and text.endswith("chosen by the distortion of squared_error")
    split.labels[0] = 1
    assert unlabelled_note(objective, split) is None
    found = validation_of(models, objective, split, CPU)()
    assert found.scores["plain"][0] == found.metrics["accuracy/cross_entropy"]
