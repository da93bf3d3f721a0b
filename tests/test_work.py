"""What a training step asks of a machine, counted, against what its formulas say."""

import pytest
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from paradise_cli.models.mlp import MLPBackbone
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.work import Work, work_of

TINY = [
    "model={backbone: {name: mlp, hidden: [8]}, latent_dim: 4, stochastic: false}",
    "objective.alpha=0",
]
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
    views: str, others: list[str], forward: int, back: int
) -> None:
    found = counted(f"views={views}", *others)
    assert (found.forward, found.back) == (forward, back)


def counted(*overrides: str) -> Work:
    return work_of(load_recipe("digits", [*TINY, *overrides]).recipe)


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_operations_are_those_of_the_layers(steps: int) -> None:
    """Forward once and back twice, to weights and inputs, but for the pixels' gradient.

    Each step of an adversary goes forward once and back to the pixels once: to no weight.
    """
    view = f"{{name: adversarial, eps: 0.1, steps: {steps}}}" if steps else "image"
    step = 3 * LAYERS - 64 * 8
    expected = 2 * (step + steps * 2 * LAYERS)
    assert counted(f"views=[{view}]").operations == expected


def test_attention_is_counted_as_its_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MLPBackbone.forward

    def attentive(self: MLPBackbone, images: Tensor) -> Tensor:
        tokens = plain(self, images).view(-1, 1, 4, 2)
        return scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)

    monkeypatch.setattr(MLPBackbone, "forward", attentive)
    products = 2 * (4 * 2 * 4)  # of 4 tokens of 2 entries: weights, and what they weigh
    assert counted().operations == 2 * (3 * LAYERS - 64 * 8 + 3 * products)


def test_a_batch_in_parts_takes_what_a_whole_one_does() -> None:
    parts = ["train.batch_size=96", "train.accumulate=16"]
    assert counted(*parts) == counted()
