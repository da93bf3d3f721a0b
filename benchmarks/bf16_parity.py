"""Which images stand after a search in bf16, and which after one in fp32: quick on digits."""

from collections.abc import Callable
from functools import partial

from canaries import digits
from results import save
from timing import machine, options

from paradise_cli.attacks import attack
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.audit.honest import HONEST
from paradise_cli.attacks.engine.classifier import Function

NETWORKS: dict[str, tuple[Callable[[], Function], float]] = {
    "robust": (partial(network, "robust"), 0.15),
    "noise": (partial(network, "noise"), 0.12),
    "standard": (partial(network, "standard"), 0.1),
    "batch_norm": (partial(network, "batch_norm"), 0.1),
    "relu": (HONEST["relu"], 0.06),
    "gelu": (HONEST["gelu"], 0.06),
    "residual": (HONEST["residual"], 0.06),
    "attention": (HONEST["attention"], 0.03),
}
"""By name, with an eps at which a good part of the images stands."""
COLUMNS = {
    "network": "`{name}`",
    "eps": "{eps:g}",
    "stand after fp32": "{fp32}",
    "stand after bf16": "{bf16}",
    "left by bf16 alone": "{missed}",
}


if __name__ == "__main__":
    chosen = options(__doc__, n=200)
    machine()
    images, labels = digits(chosen.n)
    rows = []
    for name, (make, eps) in NETWORKS.items():
        fp32, bf16 = (
            attack(
                make(), images, labels, eps=eps, suite="quick", precision=precision, audited=1
            ).standing
            for precision in ("fp32", "bf16")
        )
        counts = {"fp32": int(fp32.sum()), "bf16": int(bf16.sum())}
        rows.append({"name": name, "eps": eps, "missed": int((bf16 & ~fp32).sum())} | counts)
        print("| " + " | ".join(form.format(**rows[-1]) for form in COLUMNS.values()) + " |")
    save(
        "bf16_parity",
        what="Images that stand after a search in bf16 and in fp32; L-infinity, suite quick",
        data="digits, test",
        n=chosen.n,
        seed=0,
        columns=COLUMNS,
        rows=rows,
        note="What stands after bf16 is attacked once more in fp32, which decides every image.",
    )
