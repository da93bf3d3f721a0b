"""Train a small robust classifier: the networks that attacks and the audit are checked on.

Fast adversarial training (Wong et al. 2020): from a random start in the L-infinity ball, `--steps` steps of
sign gradient, then one step of SGD on the images found. With the defaults, a ResNet-20 on a folder of
pictures; `--data digits --net small --eps 0.15 --steps 5` makes the digit classifier of the tests.
"""

import time
from pathlib import Path

import torch
from timing import machine, options
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paradise_cli.data import DATASETS, DataBundle, Split, batches
from paradise_cli.data.augment import crop, flip
from paradise_cli.models import BACKBONES
from paradise_cli.randomness import generator, permutation
from paradise_cli.storage import save_tensors


class Classifier(nn.Module):
    """Pixels [B, C, H, W] in [0, 1] to logits [B, classes]."""

    def __init__(self, name: str, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        if name == "small":
            self.backbone: nn.Module = nn.Sequential(
                nn.Conv2d(shape[0], 16, 3, padding=1), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
                nn.Flatten(), nn.Linear(32 * shape[1] * shape[2] // 4, 64), nn.ReLU(),
            )  # fmt: skip
            features = 64
        else:
            family, depth = name.split(":")
            hyper = {"depth": int(depth)} | ({"width": 1} if family == "wide_resnet" else {})
            backbone = BACKBONES[family](shape, **hyper)
            self.backbone, features = backbone, backbone.out_features
        self.linear = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.backbone(2 * images - 1))
        return logits


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
    for k, batch in enumerate(batches(split, order=order, batch_size=100, device=torch.device("cpu"))):
        labels = batch.labels[:, 0]
        noise = torch.rand(batch.images.shape, generator=generator(1, k))
        clean += int((net(batch.images).argmax(1) == labels).sum())
        robust += int((net(perturbed(net, batch.images, labels, eps, 10, noise)).argmax(1) == labels).sum())
    return clean / len(order), robust / len(order)


def train(
    net: nn.Module, data: DataBundle, eps: float, steps: int, epochs: int, lr: float, seed: int
) -> None:
    small = data.info.shape[1] < 16
    augment = [] if small else [crop(), flip()]
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    size, rows = 64 if small else 128, len(data.train)
    total = epochs * (rows // size)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total, pct_start=0.3)
    for epoch in range(epochs):
        started, order = time.monotonic(), permutation(rows, seed, epoch)
        for k, batch in enumerate(
            batches(
                data.train, order=order, batch_size=size, device=torch.device("cpu"), augment=augment,
                key=(seed, epoch), train=True, drop_last=True,
            )
        ):  # fmt: skip
            noise = torch.rand(batch.images.shape, generator=generator(seed, epoch, k))
            labels = batch.labels[:, 0]
            images = perturbed(net, batch.images, labels, eps, steps, noise)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(net(images), labels).backward()
            optimizer.step()
            rate.step()
        net.eval()
        clean, robust = shares(net, data.test or data.train, 500, eps)
        net.train()
        print(
            f"epoch {epoch + 1}: clean {clean:.1%}, PGD-10 {robust:.1%}, {time.monotonic() - started:.0f} s",
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
    network = Classifier(chosen.net, bundle.info.shape, len(bundle.info.targets[0].classes))
    network.to(memory_format=torch.channels_last)
    train(network, bundle, float(chosen.eps), chosen.steps, chosen.epochs, float(chosen.lr), chosen.seed)
    save_tensors(
        chosen.out,
        network.state_dict(),
        {"net": chosen.net, "data": bundle.info.label, "eps": chosen.eps, "epochs": chosen.epochs},
    )
