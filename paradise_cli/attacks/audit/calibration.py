"""A shipped network of known robustness: whether the attacks work at all (row 14 of the audit)."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from paradise_cli import __version__
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.introspection import weights_digest
from paradise_cli.attacks.session.inputs import choose_compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import describe
from paradise_cli.core.resources import cache_folder
from paradise_cli.core.storage import write_json
from paradise_cli.data import DATASETS

EPS, IMAGES = 0.15, 200
"""L-infinity, and how many of the test images of digits AutoAttack was run on."""

KNOWN = (
    5, 7, 12, 16, 17, 19, 27, 29, 37, 41, 59, 65, 69, 79, 83, 88, 89, 90, 91, 95, 97, 99, 100, 101,
    102, 103, 104, 106, 109, 110, 113, 114, 115, 122, 123, 126, 133, 134, 138, 141, 142, 144, 146,
    147, 149, 150, 153, 154, 155, 156, 160, 163, 164, 165, 166, 167, 170, 171, 172, 177, 180, 183,
    184, 193, 195, 197, 198, 199,
)  # fmt: skip
"""The rows among the first IMAGES test images that do not stand: misclassified, or broken by
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
    # A shape for 8 x 8 images: that of the audited ones may be far too small for speed.
    own = choose_compute(compute.device, pixels.shape[2:], compute.precision)
    robust = network("robust").to(compute.device)
    subject = Subject.examine(robust, pixels.float() / 255, test.labels[:n, 0], "linf", own)
    return Session(subject), frozenset(row for row in KNOWN if row < n)


def kept(session: Session, eps: float, find: Callable[[], frozenset[int]]) -> frozenset[int]:
    """What `find` breaks of the reference, from the user's cache where it is known.

    The same attack on the same network gives the same rows on one machine, and takes ten seconds.
    The file holds everything that they depend on; it may be deleted, and one that is damaged, or
    that cannot be written, only costs these seconds again.
    """
    conditions = _conditions(session, eps)
    text = json.dumps(conditions, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_folder("calibration") / f"{name}.json"
    # The name is short; the conditions in the file are compared whole.
    known = _read(path, conditions, len(session.subject.images))
    if known is not None:
        return known
    found = find()
    if not session.unfinished:  # what time cut short is no answer
        _write(path, {"conditions": conditions, "broken": sorted(found)})
    return found


def _conditions(session: Session, eps: float) -> dict[str, Any]:
    """Everything on which the rows depend, as JSON values."""
    subject = session.subject
    # A shorter or changed data set is another calibration.
    images = hashlib.sha256("".join(subject.ids).encode())
    images.update(subject.labels.numpy().tobytes())
    return {
        "paradise": __version__,
        "code": package_digest(),
        "machine": describe(subject.compute.device),
        "width": subject.compute.width,
        "precision": subject.compute.precision,
        "compiled": subject.compute.compiled,
        "weights": weights_digest(subject.function),
        "images": images.hexdigest()[:16],
        "seed": subject.seed,
        "norm": subject.norm,
        "eps": eps,
    }


@cache
def package_digest() -> str:
    """A digest of the code that decides what attacks find: a checkout changes while its version
    stays.
    """
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for folder in ("attacks", "perturbations", "core", "information", "models"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read(path: Path, conditions: dict[str, Any], images: int) -> frozenset[int] | None:
    """The rows in the file, or None where it is missing, damaged or of other conditions."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [int(row) for row in found["broken"]]
        same = found["conditions"] == conditions
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return frozenset(rows) if same and all(0 <= row < images for row in rows) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except (OSError, ParadiseError):
        return  # a home that cannot be written to is no reason to fail
