"""Square attack against its schedule, its invariants and another implementation; its plainer
kin.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.methods.square import Square, SquareL2, SquareLinf, bump
from paradise_cli.attacks.protocol.lanes import Answer, Lanes
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.perturbations.threat import L2, NORMS, Linf
from tests.attack_cases import Linear, attacked, fallen

EPS = 0.1


def lanes_of(images: Tensor, step: Tensor | None = None) -> Lanes:
    n = torch.arange(len(images))
    return Lanes(images, images, 0 * n, 0 * n - 1, 1000 + n, 0 * n if step is None else step)


def grey(n: int, channels: int, height: int, width: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(n, channels, height, width, generator=generator(0, "grey"))


def halvings(attack: Square, iterations: list[int]) -> list[int]:
    return attack.stage(torch.tensor(iterations) + 1).tolist()


def test_p_halves_where_the_paper_and_autoattack_halve_it() -> None:
    """method.md 5.3; `if 10 < it <= 50: p / 2`, over 10,000 queries."""
    full = SquareLinf(Linf(EPS), queries=10_000, p=0.8, rescale=True)
    breaks = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    assert halvings(full, [0, *breaks, 9999]) == [0, *range(9), 9]
    assert halvings(full, [after + 1 for after in breaks]) == [*range(1, 10)]
    half = SquareLinf(Linf(EPS), queries=5000, p=0.8, rescale=True)
    breaks = [5, 25, 100, 250, 500, 1000, 2000, 3000, 4000]
    assert halvings(half, breaks) == [*range(9)]
    assert halvings(half, [after + 1 for after in breaks]) == [*range(1, 10)]
    driver = SquareLinf(Linf(EPS), queries=5000, p=0.8, rescale=False)
    assert halvings(driver, [10, 11, 4000, 4001, 4999]) == [0, 1, 6, 7, 7]


def test_a_window_has_the_share_p_of_the_pixels() -> None:
    stage = torch.arange(10)
    root = [math.sqrt(0.8 * 32 * 32 / 2**halved) for halved in range(10)]  # 28.6, 20.2, 14.3, ...
    linf = SquareLinf(Linf(EPS), queries=5000, p=0.8, rescale=True).side(stage, 32, 32).tolist()
    assert linf == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert all(abs(side - ideal) <= 0.5 for side, ideal in zip(linf, root, strict=True))
    l2 = SquareL2(L2(EPS), queries=5000, p=0.8, rescale=True)
    assert l2.side(stage, 32, 32).tolist() == [
        29,
        21,
        15,
        11,
        7,
        5,
        5,
        3,
        3,
        3,
    ]  # odd and at least 3
    assert l2.side(stage, 2, 40).tolist() == [2] * 10


@pytest.mark.parametrize("channels", [1, 3])
def test_every_linf_query_changes_one_square_window(channels: int) -> None:
    """At +eps everywhere signs must be found that change something, in whole windows."""
    n, height, width = 1400, 9, 12
    attack = SquareLinf(Linf(EPS), queries=10_000, p=0.5, rescale=True)
    images = grey(n, channels, height, width)
    step = 1 + torch.arange(n) * 7
    best = images + EPS
    x = attack.propose(lanes_of(images, step), best)
    torch.testing.assert_close((x - images).abs(), torch.full_like(x, EPS))
    lower = x < images
    anywhere = lower.any(1)
    assert bool(anywhere.flatten(1).any(1).all())
    side = attack.side(attack.stage(step), height, width)
    assert torch.equal(anywhere.flatten(1).sum(1), side**2)
    assert torch.equal(anywhere.any(2).sum(1), side) and torch.equal(anywhere.any(1).sum(1), side)
    assert bool((lower.flatten(2).sum(2).remainder(side[:, None] ** 2) == 0).all())
    assert bool(anywhere[side <= 2].any(0).all())  # also the last row and column
    # Of 2^C sign patterns one changes nothing; the others must be equally likely.
    pattern = (lower.flatten(2).any(2).long() * 2 ** torch.arange(channels)).sum(1)
    others = 2**channels - 1
    sd = math.sqrt(n / others * (1 - 1 / others))
    assert bool(((pattern.bincount(minlength=others + 1)[1:] - n / others).abs() <= 4 * sd).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 9, 7), (1, 1, 5), (3, 4, 4)])
def test_points_have_full_strength_and_are_images(norm: str, shape: tuple[int, int, int]) -> None:
    attack = ATTACKS["square"](NORMS[norm](EPS), queries=40)
    assert isinstance(attack, Square)
    for images, full in (
        (grey(5, *shape), min(shape[1:]) >= 3),
        (torch.rand(5, *shape).round(), False),
    ):
        x = attack.first(lanes_of(images))
        for step in range(1, 40):
            assert bool(attack.threat.contains(x, images).all())
            if full:
                torch.testing.assert_close(attack.threat.distance(x, images), torch.full((5,), EPS))
            x = attack.propose(lanes_of(images, torch.full((5,), step)), x)


def test_the_start_is_vertical_stripes() -> None:
    images = grey(200, 3, 5, 8)
    signs = SquareLinf(Linf(EPS), queries=10, p=0.8, rescale=True).first(lanes_of(images)) > images
    assert bool((signs == signs[:, :, :1]).all())
    assert abs(float(signs[:, :, 0].float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(200 * 3 * 8)


def test_an_l2_query_moves_length_between_windows_alone() -> None:
    """While nothing is clipped the length in the windows is kept, so that no other pixel
    changes.
    """
    attack = SquareL2(L2(EPS), queries=10_000, p=0.05, rescale=True)
    images = grey(300, 3, 15, 13)
    step = 1 + torch.arange(300) * 33
    best = attack.first(lanes_of(images))
    moved = (attack.propose(lanes_of(images, step), best) - best).abs().amax(1) > 1e-6
    side = attack.side(attack.stage(step), 15, 13)
    changed = moved.flatten(1).sum(1)
    assert bool((changed <= 2 * side**2).all()) and bool((changed >= side * (side - 1)).all())


def test_bumps_are_those_of_another_implementation() -> None:
    torchattacks = pytest.importorskip(
        "torchattacks", reason="torchattacks serves as the second opinion"
    )
    other = torchattacks.Square(nn.Flatten(), norm="L2", eps=EPS)
    for side in range(1, 12):
        expected = other.eta(side)
        assert any(torch.allclose(bump(side), way, atol=1e-6) for way in (expected, expected.T)), (
            side
        )


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("l2", 0.5)])
def test_as_strong_as_another_implementation(norm: str, eps: float) -> None:
    """Counts of standing images within 3 standard deviations of a difference of two binomials."""
    torchattacks = pytest.importorskip(
        "torchattacks", reason="torchattacks serves as the second opinion"
    )
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten()
    )
    net = nn.Sequential(net, nn.Linear(400, 5)).eval().requires_grad_(False)
    n, queries = 64, 100
    images = torch.rand(n, 3, 10, 10, generator=generator(1, "images"))
    labels = net(images).argmax(1)
    other = torchattacks.Square(net, norm=norm.capitalize(), eps=eps, n_queries=queries, seed=1)
    theirs = int((net(other(images, labels)).argmax(1) == labels).sum())
    attack = ATTACKS["square"](NORMS[norm](eps), queries=queries + 1)
    ours = n - int(fallen(attacked(attack, net, images, labels), n).sum())
    share = (ours + theirs) / (2 * n)
    assert 0.2 < share < 0.8  # else nothing is compared
    assert abs(ours - theirs) <= 3 * math.sqrt(2 * n * share * (1 - share))


@pytest.mark.parametrize("norm", NORMS)
def test_lanes_at_different_steps_do_not_touch_each_other(norm: str) -> None:
    linear = Linear(3, 0)
    images, labels = linear.problem(12, 0)
    attack = ATTACKS["square"](NORMS[norm](0.05 if norm == "linf" else 0.3), queries=25)
    ends = []
    for width in (16, 5):
        found = attacked(
            attack, linear, images, labels, compute=Compute(torch.device("cpu"), width)
        )
        ends.append({outcome.job.image: (outcome.point, outcome.step) for outcome in found})
    assert ends[0].keys() == ends[1].keys()
    for image, (point, step) in ends[0].items():
        torch.testing.assert_close(point, ends[1][image][0])
        assert step == ends[1][image][1]


@pytest.mark.parametrize("hyper", [{"p": 0.0}, {"p": 1.5}, {"queries": 0}])
def test_impossible_schedules_are_refused(hyper: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="square: p must lie"):
        ATTACKS["square"](Linf(EPS), **hyper)


@pytest.mark.parametrize(("kind", "draws", "each"), [("uniform", 10, 0.05), ("corner", 2, 0.5)])
def test_random_search_finds_what_its_draws_should(kind: str, draws: int, each: float) -> None:
    """One pixel decides, 0.9 eps from the boundary: a uniform draw crosses it with probability
    0.05.
    """

    def one_pixel(images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0] - 0.5, 0.5 - images[:, 0, 0, 0]], 1)

    n = 300
    images = grey(n, 1, 2, 2)
    images[:, 0, 0, 0] = 0.5 + 0.9 * EPS
    attack = ATTACKS["random_search"](Linf(EPS), draws=draws, kind=kind)
    share = 1 - (1 - each) ** draws
    found = int(
        fallen(attacked(attack, one_pixel, images, torch.zeros(n, dtype=torch.int64)), n).sum()
    )
    assert abs(found - share * n) <= 4 * math.sqrt(n * share * (1 - share))


def test_spsa_averages_slopes_and_then_moves_by_adam() -> None:
    """Adam's first move is lr x sign of the estimate, recomputed here from the points asked
    about.
    """
    samples, delta, rate = 5, 0.01, 0.03
    attack = ATTACKS["spsa"](Linf(EPS), steps=2, samples=samples, delta=delta, lr=rate)
    assert attack.steps == 2 * (2 * samples + 1) + 1 and not attack.gradient
    images = grey(3, 1, 4, 4)
    slope = torch.randn(1, 1, 4, 4, generator=generator(2, "slope"))
    lanes = lanes_of(images)
    state = attack.start(lanes, lambda x: x.flatten(1))  # type: ignore[arg-type]
    asked = []
    for step in range(2 * samples + 2):
        asked.append(state["x"])
        height = (state["x"] * slope).sum((1, 2, 3)) + 7
        answer = Answer(torch.zeros(3, 2), height, torch.zeros(()))
        state = attack.step(lanes._replace(step=torch.full((3,), step)), state, answer)
    assert torch.equal(asked[0], images)
    estimate = torch.zeros_like(images)
    for ahead, back in zip(asked[1:-1:2], asked[2:-1:2], strict=True):
        torch.testing.assert_close((ahead - images).abs(), torch.full_like(images, delta))
        torch.testing.assert_close(ahead + back, 2 * images)
        v = (ahead - back) / (2 * delta)
        estimate += v * (slope * v).sum((1, 2, 3), keepdim=True) / samples
    torch.testing.assert_close(asked[-1], images + rate * estimate.sign())
