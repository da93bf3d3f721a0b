"""Adversarial attacks on image classifiers, and the audit of what they show."""

from paradise_cli.attacks import apgd, fab, gradient, multi_targeted
from paradise_cli.attacks.lanes import ATTACKS

__all__ = ["ATTACKS", "apgd", "fab", "gradient", "multi_targeted"]
