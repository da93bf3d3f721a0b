"""Suites `standard` and `fast` against torchattacks' AutoAttack: the same networks, images and
radii, in one run.

`--nets` are run folders, weights files or module:function, by commas; `--images` a folder with
test/. For each network and radius the accuracies, the images that only one of the two breaks
(each checked by an independent forward pass), and the times; then Multi-Targeted against
AutoAttack, and PGD-200 with 20 restarts against calling theirs 20 times. `--ours` says in which
precisions ours searches, by default fp32 and, where the hardware is fast at it, bf16;
`bf16+compiled` adds `torch.compile`; `--suites` says which suites. torchattacks takes 10 steps
where AutoAttack takes 100: it is given these (`--theirs 10` to time it as it comes). `--first`
leaves out so many images, to go on with the next ones another day.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torchattacks
from timing import finish, machine, options, report
from torch import Tensor, nn

from paradise_cli.attacks.session.inputs import choose_compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, run_in_fp32, run_suite, worst_case
from paradise_cli.core.machine import choose_device, fast_bf16, full_fp32
from paradise_cli.core.randomness import permutation
from paradise_cli.data import DATASETS
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.robustness.classifiers import open_classifier

DEVICE = choose_device("auto")
_FASTER = {"standard": 1.5, "fast": 6.0}  # than torchattacks, in fp32


class Answers(nn.Module):
    """A model of ours as the module of pixels that torchattacks wants."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.model = loaded.model
        self.classifier = loaded.model.classifier()

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)


def opened(name: str) -> nn.Module:
    """A network in eval mode, without gradients of its weights."""
    target = open_classifier(name)
    net = target.function if target.loaded is None else Answers(target.loaded)
    assert isinstance(net, nn.Module)
    return net.eval().requires_grad_(False).to(DEVICE)


def images_of(folder: Path, n: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Test images [n, 3, 32, 32] of a folder and their classes, in the order of an attack."""
    test = DATASETS["image_folder"](folder, size=32, channels=3).test
    assert test is not None
    order = permutation(len(test), 0, "attack")[first:][:n]
    pixels = torch.cat(list(test.fetch(order, 64, (), False))).float() / 255
    return pixels, test.labels[order, 0]


def timed(work: Callable[..., Tensor], *given: Any) -> tuple[Tensor, float]:
    started = time.perf_counter()
    found = work(*given)
    return found, time.perf_counter() - started


def ours(
    net: nn.Module, images: Tensor, labels: Tensor, eps: float, name: str, precision: str
) -> Tensor:
    """The images as the suite leaves them, [N, C, H, W]; compiling is part of the time."""
    torch.compiler.reset()
    kind, _, compiled = precision.partition("+")
    compute = choose_compute(DEVICE, images.shape[2:], kind, compiled=bool(compiled))
    subject = Subject.examine(net, images, labels, "linf", compute)
    session, rows, suite = Session(subject), range(len(images)), SUITES[name]
    results = run_suite(session, suite, eps, rows)
    broken = worst_case(results, subject.correct)
    # As `attack` does: what stands after a search in bf16 is tried once more in fp32.
    standing = [row for row in subject.correct_rows() if row not in broken]
    results += run_in_fp32(session, suite, eps, standing, denominator=len(images))
    found = worst_case(results, subject.correct)
    passes = [count / len(images) for count in subject.classifier.passes.count]
    print("  {:.1f} images forward and {:.1f} gradients back an image".format(*passes))
    points = images.clone()
    for row, each in found.items():
        points[row] = each.entry.point
    return points


def theirs(net: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Tensor:
    attack = torchattacks.AutoAttack(
        net, norm="Linf", eps=eps, version="standard", n_classes=10, seed=0
    )
    for each in attack._autoattack.attacks[:3]:  # APGD-CE, APGD-T, FAB-T; Square counts queries
        each.steps = steps
    return attack(images.to(DEVICE), labels.to(DEVICE)).detach().cpu()


def standing(net: nn.Module, points: Tensor, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Whether each image stands, by one plain forward pass, bool [N]; the points must lie in the
    ball.
    """
    assert float((points - images).detach().abs().max()) <= eps + 1e-6
    assert 0 <= float(points.min()) and float(points.max()) <= 1
    with torch.no_grad():
        return (net(points.to(DEVICE)).argmax(1).cpu() == labels).bool()


def compare(
    name: str,
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    level: int,
    steps: int,
    ways: list[tuple[str, str]],
) -> Tensor:
    """Which images stand against ours in the first of these suites and precisions, bool [N]."""
    eps, n = level / 255, len(images)
    their_points, their_time = timed(theirs, net, images, labels, eps, steps)
    yours = standing(net, their_points, images, labels, eps)
    print(
        f"{name}, {level}/255, n = {n}: torchattacks {yours.double().mean():.2%} in"
        f" {their_time:.0f} s",
        flush=True,
    )
    found = []
    for suite, precision in ways:
        points, seconds = timed(ours, net, images, labels, eps, suite, precision)
        mine = standing(net, points, images, labels, eps)
        found.append(mine)
        print(
            f"  {suite}, {precision}: {mine.double().mean():.2%} in {seconds:.0f} s; only ours"
            f" breaks {int((yours & ~mine).sum())}, only theirs {int((mine & ~yours).sum())}",
            flush=True,
        )
        higher = 100 * (int(mine.sum()) - int(yours.sum())) / n
        report("ours at most 0.4 points higher", higher, 0.4, at_least=False)
        if len(found) > 1:
            change = 100 * int((mine != found[0]).sum()) / n
            report(f"points of images apart from {ways[0]}", change, 0.2, at_least=False)
        faster = _FASTER[suite] * (1.0 if precision.startswith("fp32") else 4 / 3)
        report("times as fast", their_time / seconds, faster, at_least=True)
    return found[0]


def multi_targeted(
    name: str, net: nn.Module, images: Tensor, labels: Tensor, eps: float, stands: Tensor
) -> None:
    """Beside what the standard suite left standing, bool [N]."""
    compute = choose_compute(DEVICE, images.shape[2:], "fp32")
    session = Session(Subject.examine(net, images, labels, "linf", compute))
    correct = session.subject.correct_rows()
    broken = session.attack("multi_targeted", eps, correct, hyper={"steps": 100, "restarts": 1})
    left = len(correct) - len(broken)
    suite = int(stands.sum())
    print(
        f"{name}: of {len(images)} Multi-Targeted 100 x 1 leaves {left}, the standard suite {suite}"
    )
    gap = 100 * abs(left - suite) / len(images)
    report("Multi-Targeted and the suite apart, points", gap, 1.0, at_least=False)


def restarts(
    name: str, net: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int, times: int
) -> None:
    compute = choose_compute(DEVICE, images.shape[2:], "fp32")
    session = Session(Subject.examine(net, images, labels, "linf", compute))
    correct = session.subject.correct_rows()
    hyper = {"steps": steps, "restarts": times, "step_size": 2 / 255}
    started = time.perf_counter()
    broken = session.attack("pgd", eps, correct, hyper=hyper)
    our_time = time.perf_counter() - started
    attack = torchattacks.PGD(net, eps=eps, alpha=2 / 255, steps=steps)
    their_points, their_time = timed(
        lambda: torch.stack(
            [attack(images.to(DEVICE), labels.to(DEVICE)).cpu() for _ in range(times)]
        )
    )
    stands = torch.stack([standing(net, each, images, labels, eps) for each in their_points]).all(0)
    print(
        f"{name}: PGD-{steps} x {times}: ours {len(correct) - len(broken)} stand in"
        f" {our_time:.0f} s,"
        f" torchattacks {int(stands.sum())} in {their_time:.0f} s"
    )
    report("PGD with restarts, times as fast", their_time / our_time, 5.0, at_least=True)


def all_of(file: str, pixels: Tensor, classes: Tensor, chosen: Namespace) -> None:
    """Every comparison on one network."""
    net, some, same = opened(file), pixels[: chosen.n], classes[: chosen.n]
    for level in [int(each) for each in chosen.levels.split(",") if each]:
        ways = list(product(chosen.suites.split(","), chosen.ours.split(",")))
        stands = compare(file, net, some, same, level, chosen.theirs, ways)
        if level == 8 and chosen.targeted:
            few = slice(min(chosen.targeted, chosen.n))
            multi_targeted(file, net, some[few], same[few], 8 / 255, stands[few])
    if chosen.restarted:
        few = slice(chosen.restarted)
        restarts(file, net, pixels[few], classes[few], 8 / 255, chosen.steps, chosen.times)


if __name__ == "__main__":
    chosen = options(
        __doc__,
        images=None,
        nets="",
        first=0,
        n=500,
        levels="2,4,8",
        theirs=100,
        ours="fp32,bf16" if fast_bf16(DEVICE) else "fp32",
        suites="standard,fast",
        targeted=200,
        restarted=100,
        steps=200,
        times=20,
    )
    machine()
    pixels, classes = images_of(chosen.images, max(chosen.n, chosen.restarted), chosen.first)
    with full_fp32(DEVICE):  # on both sides
        for file in chosen.nets.split(","):
            all_of(file, pixels, classes, chosen)
    what = f"{chosen.suites} beside torchattacks, {chosen.n} images, radii {chosen.levels} of 255"
    finish(chosen, what=what, data=f"folder {chosen.images.name}, test")
