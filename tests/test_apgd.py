"""APGD: when it looks at its step, where it starts, and the same points as AutoAttack's."""

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.methods.apgd import AutoStep, checkpoints
from paradise_cli.attacks.protocol.lanes import Answer, Lanes, State
from paradise_cli.perturbations.threat import NORMS
from tests.attack_cases import Linear, attacked, fallen
from tests.attack_parity import CLASSES, noise_as_ours, smooth_images, smooth_network

EPS = {"linf": 0.012, "l2": 0.12}
TORCHATTACKS = {"linf": "Linf", "l2": "L2"}


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),  # method.md 5.3
        (20, [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        (1, [1]),
    ],
)
def test_checkpoints(moves: int, expected: list[int]) -> None:
    assert checkpoints(moves) == expected


@pytest.mark.parametrize("norm", NORMS)
def test_starts_on_the_sphere_or_where_it_is_told(norm: str) -> None:
    threat, grey = NORMS[norm](0.05), torch.full((3, 1, 4, 4), 0.5)
    none = torch.zeros(3, dtype=torch.int64)
    lanes = Lanes(grey, grey + 0.01, none, none, torch.tensor([1, 2, 3]), none)
    linear = Linear(2, 0)
    x = ATTACKS["apgd"](threat).start(lanes, linear)["x"]
    torch.testing.assert_close(threat.distance(x, grey), torch.full((3,), 0.05))
    told = ATTACKS["apgd"](threat, start="image").start(lanes, linear)["x"]
    torch.testing.assert_close(told, threat.project(grey + 0.01, grey))


class Hill:
    """Two logits: the margin is highest, -1, where the first pixel is `top`, a ridge to
    overstep.
    """

    latent = None

    def __init__(self, top: float, wide: float) -> None:
        self.top, self.wide = top, wide

    def __call__(self, images: Tensor) -> Tensor:
        height = 1 - (images[:, 0, 0, 0] - self.top).abs() / self.wide
        return torch.stack([torch.zeros_like(height), height - 2], 1)


def test_halving_finds_a_ridge_that_full_steps_overleap() -> None:
    """Steps of 2 eps jump to and fro; each halving brings the best point nearer to the ridge."""
    images, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    ridge, threat = Hill(0.513, 0.01), NORMS["linf"](0.1)
    (outcome,) = attacked(ATTACKS["apgd"](threat, loss="margin"), ridge, images, labels)
    assert not outcome.succeeded
    # Eight checkpoints, so a step of 0.2 / 2^8 at the end, and a ridge within one step.
    assert abs(float(outcome.point[0, 0, 0]) - 0.513) <= 0.2 / 2**7


class AsTheirs(AutoStep):
    """With the one slip of AutoAttack's code: the loss after the first move is compared with 0."""

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        moved = super().step(lanes, state, answer)
        return moved | {"loss": torch.where(lanes.step > 0, moved["loss"], 0.0)}


class InDouble(nn.Module):
    """So that no sign of a slope hangs on how a processor rounds in fp32."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["ce", "dlr", "targeted"])
def test_ends_where_that_of_torchattacks_ends(
    name: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same noise and no early end: the best points of 25 moves are the same, run by run."""
    torchattacks = pytest.importorskip(
        "torchattacks", reason="not a dependency: parity with AutoAttack"
    )
    net, threat = nn.Sequential(InDouble(), smooth_network(0).double()), NORMS[norm](EPS[norm])
    # A targeted L2 run of torchattacks gives all images the step of its first, so that one is
    # alone.
    images = smooth_images(1 if (name, norm) == ("targeted", "l2") else 8, 1)
    labels = net(images).argmax(1)
    if name == "targeted":
        attack = AsTheirs(threat, moves=25, loss="dlr", aim="each", targets=3)
        theirs = torchattacks.APGDT(net, norm=TORCHATTACKS[norm], eps=threat.eps, steps=25)
    else:
        attack = AsTheirs(threat, moves=25, loss=name)
        theirs = torchattacks.APGD(
            net, norm=TORCHATTACKS[norm], eps=threat.eps, steps=25, loss=name
        )
    outcomes = attacked(attack, net, images, labels, goal="none")
    for run in {outcome.job.run for outcome in outcomes}:
        ours = sorted((o for o in outcomes if o.job.run == run), key=lambda o: o.job.image)
        assert len(ours) == len(images)
        with monkeypatch.context() as patch:
            noise_as_ours(patch, torch.tensor([outcome.job.key for outcome in ours]))
            theirs.target_class = run + 2
            best, *_ = theirs.attack_single_run(images, labels)
        apart = (torch.stack([outcome.point for outcome in ours]) - best).abs() > 1e-4
        assert (
            float(apart.float().mean()) < 0.01
        )  # where a slope is 0 to rounding its sign is a toss


@pytest.mark.parametrize("norm", NORMS)
def test_as_many_stand_as_with_torchattacks(norm: str) -> None:
    """Other noise, all nine targets."""
    torchattacks = pytest.importorskip(
        "torchattacks", reason="not a dependency: parity with AutoAttack"
    )
    net, images, threat = smooth_network(2), smooth_images(24, 3), NORMS[norm](EPS[norm])
    labels = net(images).argmax(1)
    ours = fallen(attacked(ATTACKS["apgd_targeted"](threat, steps=20), net, images, labels), 24)
    theirs = torchattacks.APGDT(
        net, norm=TORCHATTACKS[norm], eps=threat.eps, steps=20, n_classes=CLASSES
    )
    fooled = net(theirs(images, labels)).argmax(1) != labels
    assert 6 <= int(fooled.sum()) <= 18
    assert abs(int(ours.sum()) - int(fooled.sum())) <= 1
