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

from paradise_cli.attacks import AttackReport, attack
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.audit.honest import HONEST
from paradise_cli.attacks.audit.kinds import SHAMS
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.session.suite import SUITES
from paradise_cli.data import DATASETS

COLUMNS = {
    "classifier": "`{name}`",
    "honest twin": "{twin}",
    "clean": "{clean:.1%}",
    "`fast`": "{fast:.1%}",
    "`standard`": "{standard:.1%}",
    "`standard` goes on": "{went_on}",
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


def row(name: str, twin: str, found: dict[str, AttackReport]) -> dict[str, object]:
    """What both suites leave, and what the audit says at the end of `fast`."""
    fast = found["fast"]
    failed = [str(each.number) for each in fast.audit.rows if each.result == "fail"]
    return {
        "name": name,
        "twin": twin,
        "clean": fast.clean_accuracy.value,
        **{suite: each.robust_accuracy.value for suite, each in found.items()},
        "went_on": "yes" if len(fast.stages) > len(SUITES["fast"].stages) else "-",
        "verdict": fast.verdict,
        "failed": ", ".join(failed) or "-",
        "decided": f"{fast.audit.decided} of {fast.audit.total}",
    }


if __name__ == "__main__":
    chosen = options(__doc__, n=80, eps="0.1", only="")
    machine()
    images, labels = digits(chosen.n)
    rows = []
    for name, (twin, make) in classifiers().items():
        if chosen.only not in name:
            continue
        started = time.monotonic()
        found = {}
        for suite in ("fast", "standard"):
            torch.manual_seed(0)
            found[suite] = attack(
                make(), images, labels, eps=float(chosen.eps), suite=suite, audited=chosen.n
            )
        rows.append(row(name, twin, found))
        cells = " | ".join(form.format(**rows[-1]) for form in COLUMNS.values())
        print(f"| {cells} | {time.monotonic() - started:.0f} s |", flush=True)
    if not chosen.only:
        save(
            "canaries",
            what=(
                "What the audit says of honest networks (no twin) and of shams made from them after"
                f" suite fast; L-infinity {chosen.eps}, {chosen.n} images audited"
            ),
            data="digits, test",
            n=chosen.n,
            interval="Wilson 95%",
            seed=0,
            columns=COLUMNS,
            rows=rows,
            note="What is left counts what the audit's own attacks broke.",
        )
