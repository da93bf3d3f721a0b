"""Adversarial attacks on image classifiers, and the audit of what they show."""

from paradise_cli.attacks import (  # noqa: F401
    apgd,
    fab,
    gradient,
    latent,
    multi_targeted,
    random_search,
    spsa,
    square,
    surrogate,
)
from paradise_cli.attacks.lanes import ATTACKS
from paradise_cli.attacks.report import AttackReport
from paradise_cli.attacks.run import attack

__all__ = ["ATTACKS", "AttackReport", "attack"]
