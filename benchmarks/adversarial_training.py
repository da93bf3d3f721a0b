"""Train a small robust classifier, or one that only seems robust, for attacks and the audit to be
checked on.

Fast adversarial training (Wong et al. 2020): from a random start in the L-infinity ball, `--steps`
steps of sign gradient, then one step of SGD on the images found. With the defaults, a ResNet-20 on
a folder of pictures; `--eps 0` is ordinary training. `--gamma` trains on the images themselves and
asks instead for the same answer under uniform noise of size eps; `--beta` weighs the rate of an
encoder. The networks of `zoo/digits.md` are made by the commands that stand there.
"""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import machine, options
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from paradise_cli.attacks.audit.small_network import SmallEncoder, small_network
from paradise_cli.core.machine import choose_device
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.core.storage import save_tensors
from paradise_cli.data import DATASETS, DataBundle, Split, batches
from paradise_cli.data.augment import crop, flip
from paradise_cli.data.base import on_device
from paradise_cli.models import BACKBONES

DEVICE = choose_device("auto")


class Classifier(nn.Module):
    """Pixels [B, C, H, W] in [0, 1] to logits [B, classes]."""

    def __init__(self, name: str, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        family, depth = name.split(":")
        hyper = {"depth": int(depth)} | ({"width": 1} if family == "wide_resnet" else {})
        self.backbone = BACKBONES[family](shape, **hyper)
        self.linear = nn.Linear(self.backbone.out_features, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.backbone(2 * images - 1))
        return logits


@dataclass(frozen=True)
class Goal:
    """What a network is trained for: see the options of the same names."""

    eps: float
    steps: int
    gamma: float
    beta: float

    def loss(self, net: nn.Module, images: Tensor, labels: Tensor, draw: torch.Generator) -> Tensor:
        """In nats, averaged over the images."""
        noise = on_device(torch.rand(images.shape, generator=draw), DEVICE)
        if isinstance(net, SmallEncoder):
            posterior = net.posterior(images)
            z = posterior.rsample(
                on_device(torch.randn(posterior.mu.shape, generator=draw), DEVICE)
            )
            rate = posterior.kl_to_standard_normal().mean()
            return cross_entropy(net.classify(z), labels) + self.beta * rate
        if self.gamma:
            noisy = log_softmax(net(perturbed(net, images, labels, self.eps, 0, noise)), 1)
            logits = net(images)
            gap = kl_div(noisy, log_softmax(logits, 1), log_target=True, reduction="batchmean")
            return cross_entropy(logits, labels) + self.gamma * gap
        return cross_entropy(
            net(perturbed(net, images, labels, self.eps, self.steps, noise)), labels
        )


def perturbed(
    net: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int, noise: Tensor
) -> Tensor:
    """Images in the ball that the network finds hard; noise is uniform in [0, 1]."""
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    found = low + noise * (high - low)
    for _ in range(steps):
        found.requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(net(found), labels), [found])
        found = (found.detach() + 1.25 * eps / steps * gradient.sign()).clamp(low, high)
    return found.detach()


def shares(net: nn.Module, split: Split, n: int, eps: float) -> tuple[float, float]:
    """Share of n images classified rightly, and under 10 steps of sign gradient."""
    order = permutation(len(split), 0, "examples")[:n]
    clean = robust = 0
    for k, batch in enumerate(batches(split, order=order, batch_size=100, device=DEVICE)):
        labels = batch.labels[:, 0]
        noise = on_device(torch.rand(batch.images.shape, generator=generator(1, k)), DEVICE)
        clean += int((net(batch.images).argmax(1) == labels).sum())
        robust += int(
            (net(perturbed(net, batch.images, labels, eps, 10, noise)).argmax(1) == labels).sum()
        )
    return clean / len(order), robust / len(order)


def train(net: nn.Module, data: DataBundle, goal: Goal, epochs: int, lr: float, seed: int) -> None:
    small = data.info.shape[1] < 16
    augment = [] if small else [crop(), flip()]
    optimizer = torch.optim.SGD(
        net.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    size, rows = 64 if small else 128, len(data.train)
    total = epochs * (rows // size)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total, pct_start=0.3)
    for epoch in range(epochs):
        started, order = time.monotonic(), permutation(rows, seed, epoch)
        for k, batch in enumerate(
            batches(
                data.train, order=order, batch_size=size, device=DEVICE, augment=augment,
                key=(seed, epoch), train=True, drop_last=True,
            )
        ):  # fmt: skip
            loss = goal.loss(net, batch.images, batch.labels[:, 0], generator(seed, epoch, k))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
        net.eval()
        clean, robust = shares(net, data.test or data.train, 500, goal.eps)
        net.train()
        print(
            f"epoch {epoch + 1}: clean {clean:.1%}, PGD-10 {robust:.1%},"
            f" {time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    chosen = options(
        __doc__,
        data="digits",
        out=None,
        net="preact_resnet:20",
        eps="0.0314",
        steps=1,
        gamma="0",
        beta="0",
        epochs=4,
        lr="0.1",
        seed=0,
    )
    machine()
    known = chosen.data in DATASETS
    bundle = (
        DATASETS[chosen.data](None)
        if known
        else DATASETS["image_folder"](Path(chosen.data), size=32, channels=3)
    )
    torch.manual_seed(chosen.seed)
    make = small_network if chosen.net.startswith("small") else Classifier
    classes = len(bundle.info.targets[0].classes)
    network = make(chosen.net, bundle.info.shape, classes)
    network.to(DEVICE, memory_format=torch.channels_last)
    wanted = Goal(float(chosen.eps), chosen.steps, float(chosen.gamma), float(chosen.beta))
    train(network, bundle, wanted, chosen.epochs, float(chosen.lr), chosen.seed)
    save_tensors(
        chosen.out,
        network.cpu().state_dict(),
        {
            "net": chosen.net,
            "shape": bundle.info.shape,
            "classes": classes,
            "data": bundle.info.label,
            "command": shlex.join(["python", "benchmarks/adversarial_training.py", *sys.argv[1:]]),
        },
    )
