"""Hits and false alarms of the audit, as a table: every canary, and honest networks, on digits."""

import time

import torch
from timing import machine, options

from paradise_cli.attacks import attack
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.data import DATASETS

HONEST = ("robust", "standard", "encoder", "batch_norm")


if __name__ == "__main__":
    chosen = options(__doc__, n=200, eps="0.1", suite="standard", only="")
    machine()
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(chosen.n), chosen.n, (), False)))
    functions = {name: (network(name), name) for name in HONEST}
    functions |= {name: (canary(), canary.network) for name, canary in CANARIES.items()}
    for name, (function, twin) in functions.items():
        if chosen.only not in name:
            continue
        started = time.monotonic()
        torch.manual_seed(0)
        found = attack(
            function,
            images,
            test.labels[: chosen.n, 0],
            eps=float(chosen.eps),
            suite=chosen.suite,
            audited=chosen.n,
        )
        failed = [row.number for row in found.audit.rows if row.result == "fail"]
        undecided = [row.number for row in found.audit.rows if row.result == "inconclusive"]
        print(
            f"| `{name}` | {'-' if name in HONEST else twin} | {found.clean_accuracy.value:.1%} |"
            f" {found.robust_accuracy.value:.1%} | {found.verdict} |"
            f" {', '.join(map(str, failed)) or '-'} |"
            f" {', '.join(map(str, undecided)) or '-'} | {time.monotonic() - started:.0f} s |",
            flush=True,
        )
