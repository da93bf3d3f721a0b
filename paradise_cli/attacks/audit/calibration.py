"""A shipped network of known robustness: whether the attacks work at all (row 14 of the audit)."""

import torch

from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.inputs import choose_compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.data import DATASETS

EPS, IMAGES = 0.15, 200
"""L-infinity, and how many of the test images of digits AutoAttack was run on."""

KNOWN = (
    5, 7, 12, 16, 17, 19, 27, 29, 37, 41, 59, 65, 69, 79, 83, 88, 89, 90, 91, 95, 97, 99, 100, 101,
    102, 103, 104, 106, 109, 110, 113, 114, 115, 122, 123, 126, 133, 134, 138, 141, 142, 144, 146,
    147, 149, 150, 153, 154, 155, 156, 160, 163, 164, 165, 166, 167, 170, 171, 172, 177, 180, 183,
    184, 193, 195, 197, 198, 199,
)  # fmt: skip
"""The rows among the first IMAGES test images that do not stand: misclassified, or felled by
AutoAttack.

That is `AutoAttack(net, norm="Linf", eps=0.15, version="standard", n_classes=10, seed=0)` of
torchattacks 3.5.1, on all 200 images as one batch on a CPU, with `steps = 100` set on its APGD,
APGDT and FAB (it gives them 10), as in AutoAttack itself. 132 of the 200 stand.
"""


def reference(compute: Compute, images: int) -> tuple[Session, frozenset[int]]:
    """The shipped network `robust` on the first test images of digits, and the rows known not to
    stand.

    At most IMAGES; it runs where `compute` does, at a batch shape of its own.
    """
    test = DATASETS["digits"](None).test
    assert test is not None
    n = min(images, IMAGES)
    (pixels,) = test.fetch(torch.arange(n), n, (), False)
    own = choose_compute(compute.device, pixels.shape[2:], compute.precision)
    robust = network("robust").to(compute.device)
    subject = Subject.examine(robust, pixels.float() / 255, test.labels[:n, 0], "linf", own)
    return Session(subject), frozenset(row for row in KNOWN if row < n)
