"""`train.accumulate`: which recipes can be computed part by part, and which are refused.

That the parts of a batch add up to it is shown in test_shares.py.
"""

import copy

import pytest
import torch
from torch import nn

from paradise_cli.build import build_data, build_info, build_model, build_objective
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.modes import running_statistics
from paradise_cli.data import keep_labels
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.prepare import _require_parts

PARTS = ["train.accumulate=2", "train.batch_size=64", "objective.rate={q: fixed}"]
CORNERS = "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]"
REFUSED = {
    "train.accumulate: 2 parts must divide train.batch_size, 65": ["train.batch_size=65"],
    "train.accumulate: the rate of q: batch is of the whole batch": [
        "objective.rate={q: batch}"
    ],
    "the rate of q: fitted is": ["objective.rate={q: fitted}"],
    "the rate of q: mixture is": ["objective.rate={q: mixture}"],
    "the rate of q: bank is": ["objective.rate={q: bank, size: 128}"],
    "the rate of q: pairwise is": ["objective.rate={q: pairwise}"],
    "data.labelled: labels are counted over the whole batch": ["data.labelled=100"],
    "objective.lagrangian: the square is of the whole batch's rate": [
        "objective.lagrangian=squared"
    ],
    "objective.tasks.0.distortion: info_nce compares the images of the whole batch": [
        CORNERS, "objective.tasks=[{distortion: info_nce, head: {name: projection, hidden: [9]}}]"
    ],
    "objective.matching: it is taken over the whole batch": [
        CORNERS, "objective.matching={distance: {name: l1, normalise: true}, gamma: 1}"
    ],
    "objective.matching: it is": [
        CORNERS,
        "objective.matching={of: outputs, distance: squared, gamma: 1, partner: other}",
    ],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_parts_do_not_add_up_to_is_refused(message: str) -> None:
    with pytest.raises(ParadiseError) as caught:
        chosen = load_recipe("digits", [*PARTS, *REFUSED[message]]).recipe
        build_objective(chosen, build_info(chosen))
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "distance",
    ["l1", "wasserstein", "symmetric_kl", "bhattacharyya", "hellinger", "kl", "squared", "norm"],
)
def test_distances_of_an_image_alone_are_allowed(distance: str) -> None:
    of = "outputs" if distance in ("kl", "squared", "norm") else "posterior"
    matching = f"objective.matching={{of: {of}, distance: {distance}, gamma: 1}}"
    load_recipe("digits", [*PARTS, CORNERS, matching])


def test_images_that_do_not_divide_and_images_without_labels_are_refused() -> None:
    chosen = load_recipe("digits", PARTS).recipe
    train = build_data(chosen).train
    _require_parts(chosen, train)
    with pytest.raises(ParadiseError, match=r"2 parts in 1 process do not divide a batch of 51"):
        _require_parts(chosen, train.select(torch.arange(51)))
    data = keep_labels(build_data(chosen), 100, seed=0)
    with pytest.raises(ParadiseError, match=r"train.accumulate: some training images have no"):
        _require_parts(chosen, data.train)


def test_synchronised_layers_hold_the_very_weights_and_measure_alike() -> None:
    """On one device they must be what they replace: names, weights, answers."""
    backbone = "model.backbone={name: preact_resnet, depth: 8}"
    chosen = load_recipe("digits", [backbone]).recipe
    model = build_model(chosen, build_info(chosen)).eval()
    before = copy.deepcopy(model)
    weights = [id(each) for each in model.parameters()]
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert any(isinstance(each, nn.SyncBatchNorm) for each in model.modules())
    assert [id(each) for each in model.parameters()] == weights
    assert model.state_dict().keys() == before.state_dict().keys()
    assert len(running_statistics(model)) == len(running_statistics(before)) > 0
    images = torch.rand(5, *model.in_shape)
    assert torch.equal(model.encode(images).mu, before.encode(images).mu)
