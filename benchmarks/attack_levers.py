"""What each lever gives a search of suite `standard`, and what of its time is the bare network.

    python benchmarks/attack_levers.py --images FOLDER --net cifar10-wrn-pm-adversarial

Images a second that one thread answers and takes gradients of: laid out and batched as torchattacks
does it; as ours does it; and with more on top, some of which ours leaves out. Then the suite runs,
and its time is compared with that of its passes through the bare network alone.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from autoattack import Answers, images_of, opened
from timing import finish, machine, median, options, pairs, ratio, report
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from paradise_cli.attacks.session.inputs import choose_compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, run_suite

BATCH = 128  # of torchattacks, whose user chooses it
CPU = torch.device("cpu")
Work = Callable[[], object]


def gradient(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The gradient of a margin, [B, C, H, W], without those of weights."""
    asked = images.detach().requires_grad_()
    logits = net(asked)
    (slope,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), [asked])
    return slope


def answer(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits [B, classes], without a graph."""
    with torch.no_grad():
        return net(images)


def folded(net: Answers) -> Answers:
    """The same model with each batch norm that follows a convolution folded into it."""
    net.model.backbone = fuse(net.model.backbone)
    return net


def laid_out(net: nn.Module, images: Tensor, layout: torch.memory_format) -> Tensor:
    net.to(memory_format=layout)
    return images.contiguous(memory_format=layout)


def in_bf16(net: nn.Module, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        found: Tensor = net(images).float()
    return found


def levers(name: str, images: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor]]:
    """Each way to ask the network, and a batch to ask about."""
    few, more = (
        images[: choose_compute(CPU, images.shape[2:], kind).width] for kind in ("fp32", "bf16")
    )
    net = opened(name)
    yield f"{len(few)} images at once", net, few
    net = opened(name)
    last = torch.channels_last
    yield "channels_last", net, laid_out(net, few, last)
    net = opened(name)
    yield "channels_last, compiled", torch.compile(net, dynamic=False), laid_out(net, few, last)
    net = opened(name)
    assert isinstance(net, Answers), "a model of ours, whose backbone is known"
    yield "channels_last, batch norm folded", folded(net), laid_out(net, few, last)
    net = opened(name)
    yield (
        f"channels_last, bf16, {len(more)} at once",
        partial(in_bf16, net),
        laid_out(net, more, last),
    )


def rates(name: str, images: Tensor, n: int) -> None:
    """How many times as many images a second each way answers, and takes gradients of."""
    plain, whole = opened(name), images[:BATCH]
    for words, way, batch in levers(name, images):
        for kind, work in {"gradients": gradient, "answers": answer}.items():
            ours: Work = partial(work, way, batch)
            # As much on either side, so that a pair takes as long.
            times = BATCH // len(batch)
            repeated: Work = partial(lambda once, k: [once() for _ in range(k)], ours, times)
            timed = pairs(partial(work, plain, whole), repeated, n, time.process_time)
            gain = ratio(timed) * times * len(batch) / BATCH
            report(f"{kind}, {words} / {BATCH} at once", gain, None, at_least=True)


def floor(name: str, images: Tensor, labels: Tensor, eps: float) -> None:
    """The share of the suite's time that its passes through the bare network would take."""
    net = opened(name)
    compute = choose_compute(CPU, images.shape[2:], "fp32")
    subject = Subject.examine(net, images, labels, "linf", compute)
    started, before = time.process_time(), subject.classifier.passes.count
    run_suite(Session(subject), SUITES["standard"], eps, range(len(images)))
    seconds = time.process_time() - started
    spent = subject.classifier.passes.count.since(before)
    batch = laid_out(net, images[: compute.width], subject.classifier.layout)
    timed = pairs(partial(gradient, net, batch), partial(answer, net, batch), 15, time.process_time)
    back, forward = (median(timed, side) / len(batch) for side in (0, 1))
    bare = spent.back * back + (spent.forward - spent.back) * forward
    passes = f"{spent.forward / len(images):.0f} forward and {spent.back / len(images):.0f} back"
    report(f"bare network's share of `standard`, {passes} an image", bare / seconds, None,
           at_least=True)  # fmt: skip


if __name__ == "__main__":
    chosen = options(__doc__, images=None, net="cifar10-wrn-pm-adversarial", n=50, pairs=7, level=8)
    torch.set_num_threads(1)
    machine()
    pixels, classes = images_of(chosen.images, max(chosen.n, BATCH))
    rates(chosen.net, pixels, chosen.pairs)
    floor(chosen.net, pixels[: chosen.n], classes[: chosen.n], chosen.level / 255)
    what = (
        f"Levers of a search on {chosen.net}, processor time of one thread, median of"
        f" {chosen.pairs} pairs; the suite on {chosen.n} images at {chosen.level}/255"
    )
    finish(chosen, what=what, data=f"folder {chosen.images.name}, test")
