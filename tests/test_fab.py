"""FAB: its projections against independent solvers, and the same planes as AutoAttack's."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.methods.fab import change_to_plane
from paradise_cli.attacks.protocol.lanes import Answer, Attack, Lanes, input_gradient
from paradise_cli.attacks.protocol.losses import others
from paradise_cli.core.randomness import generator
from paradise_cli.perturbations.threat import NORMS
from tests.attack_cases import attacked, fallen
from tests.attack_parity import CLASSES, smooth_images, smooth_network

TORCHATTACKS = {"linf": "Linf", "l2": "L2"}
PIXELS = 12
PARTS = [-0.97, -0.6, -0.2, 0.02, 0.3, 0.5, 0.8, 0.99]
"""How much of what the box can close a plane asks for."""


def planes(parts: list[float], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, some at a wall, gaps and normals, some of them 0 in a pixel; [N, 3, 2, 2]."""
    draw = generator(seed, "planes")
    x = (1.4 * torch.rand(len(parts), PIXELS, generator=draw) - 0.2).clamp(0, 1)
    normal = torch.randn(len(parts), PIXELS, generator=draw)
    normal[:, 0], normal[:, 1] = 0, 1e-3 * normal[:, 1]
    part = torch.tensor(parts)
    room = torch.where((part[:, None] > 0) == (normal > 0), x, 1 - x)
    gap = part * (normal.abs() * room).sum(1)
    return x.view(-1, 3, 2, 2), gap, normal.view(-1, 3, 2, 2)


def nearest_linf(x: np.ndarray, gap: float, normal: np.ndarray) -> float:
    """The least largest change of a pixel, by linear programming over the changes and their
    bound.
    """
    one, eye = np.ones((PIXELS, 1)), np.eye(PIXELS)
    found = linprog(
        np.append(np.zeros(PIXELS), 1),
        A_ub=np.block([[eye, -one], [-eye, -one]]),
        b_ub=np.zeros(2 * PIXELS),
        A_eq=np.append(normal, 0)[None],
        b_eq=[-gap],
        bounds=[*zip(-x, 1 - x, strict=True), (0, None)],
    )
    assert found.success
    return float(found.fun)


def nearest_l2(x: np.ndarray, gap: float, normal: np.ndarray) -> float:
    """The least length of a change, by quadratic programming."""
    found = minimize(
        lambda change: change @ change,
        np.zeros(PIXELS),
        jac=lambda change: 2 * change,
        bounds=[*zip(-x, 1 - x, strict=True)],
        constraints={
            "type": "eq",
            "fun": lambda change: normal @ change + gap,
            "jac": lambda _: normal,
        },
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success
    return float(np.sqrt(found.fun))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("norm", "nearest"), [("linf", nearest_linf), ("l2", nearest_l2)])
def test_the_change_to_a_plane_is_the_smallest(norm, nearest, seed: int) -> None:
    threat, (x, gap, normal) = NORMS[norm](0.1), planes(PARTS, seed)
    change = change_to_plane(threat, x, gap, normal)
    assert bool(((x + change >= -1e-6) & (x + change <= 1 + 1e-6)).all())
    torch.testing.assert_close((normal * change).flatten(1).sum(1), -gap, rtol=1e-4, atol=1e-5)
    expected = [
        nearest(*(value.double().flatten().numpy() for value in row))
        for row in zip(x, gap, normal, strict=True)
    ]
    found = threat.distance(change, torch.zeros_like(change)).double()
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_leads_to_the_corner_nearest_to_it(norm: str) -> None:
    x, gap, normal = planes([1.3, -1.3, 40.0], 0)
    change = change_to_plane(NORMS[norm](0.1), x, gap, normal)
    corner = torch.where((gap > 0).view(-1, 1, 1, 1) == (normal > 0), 0.0, 1.0)
    torch.testing.assert_close((x + change)[normal != 0], corner[normal != 0])
    assert not bool(change[normal == 0].any())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_logits_changes_nothing(norm: str, scale: float) -> None:
    threat, (x, gap, normal) = NORMS[norm](0.1), planes(PARTS, 0)
    change = change_to_plane(threat, x, gap, normal)
    torch.testing.assert_close(change_to_plane(threat, x, scale * gap, scale * normal), change)


@pytest.mark.parametrize("norm", NORMS)
def test_no_slope_is_no_change(norm: str) -> None:
    x, gap, normal = planes(PARTS, 0)
    assert not bool(change_to_plane(NORMS[norm](0.1), x, gap, torch.zeros_like(normal)).any())


def nearest_after(
    attack: Attack, net, images: Tensor, labels: Tensor, targets: Tensor, planes: int
) -> Tensor:
    """Distance of the nearest wrong point among those beyond each image's first planes, [N]."""
    count = torch.zeros_like(labels)
    lanes = Lanes(images, images, labels, targets, count, count)
    state = attack.start(lanes, net)
    nearest = torch.full((len(images),), torch.inf)
    for ask in range(attack.steps):
        x = state["x"].clone().requires_grad_()
        logits, loss = attack.evaluate(net, x, lanes, state)
        (gradient,) = torch.autograd.grad(loss.sum(), [x])
        gradient = gradient if ask % attack.cycle == 0 else torch.empty(0)
        counts = state["tried"] & (count <= planes) & (logits.argmax(1) != labels)
        distance = attack.threat.distance(state["x"], images)
        nearest = torch.where(counts, torch.minimum(distance, nearest), nearest)
        state = attack.step(lanes, state, Answer(logits.detach(), loss.detach(), gradient))
        count = count + state["tried"]
    return nearest


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_wrong_points_are_those_of_torchattacks(norm: str) -> None:
    """Plane by plane, whether the ball is out of reach or is entered on the way back."""
    torchattacks = pytest.importorskip(
        "torchattacks", reason="not a dependency: parity with AutoAttack"
    )
    net, images, threat = smooth_network(0), smooth_images(12, 1), NORMS[norm](1e-4)
    labels = net(images).argmax(1)
    theirs = torchattacks.FAB(
        net,
        norm=TORCHATTACKS[norm],
        eps=threat.eps,
        steps=12,
        multi_targeted=True,
        n_classes=CLASSES,
    )
    ranked = others(net(images), labels).argsort(1, descending=True)
    for place in range(3):
        theirs.target_class = place + 2
        with torch.no_grad():
            expected = threat.distance(theirs.attack_single_run_targeted(images, labels), images)
        assert bool((expected > 0.002).all())
        for eps in (1e-4, float(expected.median()), 0.95 * float(expected.amax())):
            attack = ATTACKS["fab_targeted"](NORMS[norm](eps), steps=12)
            found = nearest_after(attack, net, images, labels, ranked[:, place], 12)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.012), ("l2", 0.12)])
def test_no_more_stand_than_with_torchattacks(norm: str, eps: float) -> None:
    torchattacks = pytest.importorskip(
        "torchattacks", reason="not a dependency: parity with AutoAttack"
    )
    net, images, threat = smooth_network(2), smooth_images(24, 3), NORMS[norm](eps)
    labels = net(images).argmax(1)
    ours = fallen(attacked(ATTACKS["fab_targeted"](threat, steps=15), net, images, labels), 24)
    theirs = torchattacks.FAB(
        net, norm=TORCHATTACKS[norm], eps=eps, steps=15, multi_targeted=True, n_classes=CLASSES
    )
    with torch.no_grad():
        points = theirs(images, labels)
        fooled = (net(points).argmax(1) != labels) & (threat.distance(points, images) <= eps + 1e-6)
    assert 6 <= int(fooled.sum()) <= 18
    assert not bool((fooled & ~ours).any())


def test_where_logits_are_no_numbers_points_still_are() -> None:
    net, images = smooth_network(0), smooth_images(6, 1)

    def broken(x: Tensor) -> Tensor:
        far = (x - images).flatten(1).abs().amax(1, keepdim=True) > 0.001
        return torch.where(far, torch.nan, net(x))

    ranked = others(net(images), net(images).argmax(1)).argsort(1, descending=True)
    zero = torch.zeros(6, dtype=torch.int64)
    lanes = Lanes(images, images, net(images).argmax(1), ranked[:, 0], zero, zero)
    attack, seen = ATTACKS["fab_targeted"](NORMS["linf"](1e-4), steps=6), 0
    state = attack.start(lanes, broken)
    for ask in range(attack.steps):
        x = state["x"].clone().requires_grad_()
        logits, loss = attack.evaluate(broken, x, lanes, state)
        gradient = input_gradient(loss, x) if ask % attack.cycle == 0 else torch.empty(0)
        state = attack.step(lanes, state, Answer(logits.detach(), loss.detach(), gradient))
        seen += int(logits.isnan().any())
        assert bool(state["x"].isfinite().all())
    assert seen
