"""What a training step asks of a machine, counted, against what its formulas say."""

from pathlib import Path

import pytest

from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.work import Work, work_of

RECIPE = """
name: tiny
data:  {name: digits}
model: {backbone: {name: mlp, hidden: [8]}, latent_dim: 4, stochastic: false}
objective:
  tasks: [{distortion: {name: cross_entropy}, head: {name: linear}}]
  alpha: 0
optim: {name: adam, lr: 1.0e-2}
train: {epochs: 1, batch_size: 128, seed: 0}
"""
FIRST = "objective.tasks=[{distortion: cross_entropy, head: linear, views: [0]}]"
LAYERS = 64 * 8 + 8 * 4 + 4 * 10
"""Multiplications of one pass: 64 pixels, 8 hidden, 4 latents, 10 classes."""


@pytest.mark.parametrize(
    ("views", "others", "forward", "back"),
    [
        ("[image]", [], 1, 1),
        ("[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]",
         ["objective.matching={of: posterior, distance: l1, gamma: 1}"], 2, 2),
        ("[{name: adversarial, eps: 0.1, start_size: 0.2, project: false}]", [], 2, 2),
        ("[{name: adversarial, eps: 0.1, steps: 10}]", [], 11, 11),
        # The clean answers that are to be left are asked for once, without a gradient.
        ("[image, {name: adversarial, eps: 0.1, loss: outputs}]",
         [FIRST, "objective.matching={of: outputs, distance: kl, gamma: 1}"], 4, 3),
    ],
    ids=["standard", "PM", "N-FGSM", "ADV-10", "TRADES-1"],
)  # fmt: skip
def test_passes_are_those_that_a_step_makes(
    tmp_path: Path, views: str, others: list[str], forward: int, back: int
) -> None:
    found = counted(tmp_path, f"views={views}", *others)
    assert (found.forward, found.back) == (forward, back)


def counted(folder: Path, *overrides: str) -> Work:
    path = folder / "tiny.yaml"
    path.write_text(RECIPE)
    return work_of(load_recipe(str(path), overrides).recipe)


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_operations_are_those_of_the_layers(tmp_path: Path, steps: int) -> None:
    """Forward once and back twice, to weights and inputs, but for the pixels' gradient.

    Each step of an adversary goes forward once and back to the pixels once: to no weight.
    """
    view = f"{{name: adversarial, eps: 0.1, steps: {steps}}}" if steps else "image"
    step = 3 * LAYERS - 64 * 8
    expected = 2 * (step + steps * 2 * LAYERS)
    assert counted(tmp_path, f"views=[{view}]").operations == expected
