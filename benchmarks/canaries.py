"""Hits and false alarms of the audit, as a table: shams of all kinds, and honest networks.

All classify the 8 x 8 digits. A hit is a sham that is called suspect or obfuscated, or whose
accuracy under attack is that of its honest twin; a false alarm is an honest network so called.
"""

import time
from collections.abc import Callable

import torch
from results import save
from timing import machine, options
from torch import Tensor

from paradise_cli.attacks import attack
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.audit.honest import HONEST
from paradise_cli.attacks.audit.kinds import SHAMS
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.data import DATASETS

COLUMNS = {
    "classifier": "`{name}`",
    "honest twin": "{twin}",
    "clean": "{clean:.1%}",
    "under attack": "{robust:.1%}",
    "verdict": "{verdict}",
    "tests failed": "{failed}",
    "decided": "{decided}",
}


def classifiers() -> dict[str, tuple[str, Callable[[], Function]]]:
    """By name: the honest twin, and how to make it."""
    found: dict[str, tuple[str, Callable[[], Function]]] = {"standard": ("-", _standard)}
    found |= {name: ("-", make) for name, make in HONEST.items()}
    found |= {name: (canary.network, canary) for name, canary in CANARIES.items()}
    found |= {name: ("standard", make) for name, make in SHAMS.items()}
    return found


def _standard() -> Function:
    return network("standard")


def digits(n: int) -> tuple[Tensor, Tensor]:
    """The first n test images, [n, 1, 8, 8], and their classes, [n]."""
    test = DATASETS["digits"](None).test
    assert test is not None
    (images,) = test.fetch(torch.arange(n), n, (), False)
    return images, test.labels[:n, 0]


if __name__ == "__main__":
    chosen = options(__doc__, n=200, eps="0.1", suite="standard", only="")
    machine()
    images, labels = digits(chosen.n)
    rows = []
    for name, (twin, make) in classifiers().items():
        if chosen.only not in name:
            continue
        started = time.monotonic()
        torch.manual_seed(0)
        found = attack(
            make(),
            images,
            labels,
            eps=float(chosen.eps),
            suite=chosen.suite,
            audited=chosen.n,
        )
        failed = [str(row.number) for row in found.audit.rows if row.result == "fail"]
        row = {
            "name": name,
            "twin": twin,
            "clean": found.clean_accuracy.value,
            "robust": found.robust_accuracy.value,
            "verdict": found.verdict,
            "failed": ", ".join(failed) or "-",
            "decided": f"{found.audit.decided} of {found.audit.total}",
        }
        rows.append(row)
        cells = " | ".join(form.format(**row) for form in COLUMNS.values())
        print(f"| {cells} | {time.monotonic() - started:.0f} s |", flush=True)
    if not chosen.only:
        save(
            "canaries",
            what=(
                "What the audit says of honest networks (no twin) and of shams made from them;"
                f" L-infinity {chosen.eps}, suite {chosen.suite}, {chosen.n} images audited"
            ),
            data="digits, test",
            n=chosen.n,
            interval="Wilson 95%",
            seed=0,
            columns=COLUMNS,
            rows=rows,
            note="Under attack counts what the audit's own attacks broke.",
        )
