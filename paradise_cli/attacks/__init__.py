"""Adversarial attacks on image classifiers, and the audit of what they show."""

from paradise_cli.attacks import methods  # noqa: F401
from paradise_cli.attacks.protocol.lanes import ATTACKS
from paradise_cli.attacks.report import AttackReport
from paradise_cli.attacks.run import attack

__all__ = ["ATTACKS", "AttackReport", "attack"]
