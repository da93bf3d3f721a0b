"""Adversarial attacks on image classifiers, and the audit of what they show."""

from paradise_cli.attacks import gradient, latent, multi_targeted, random_search, spsa, square
from paradise_cli.attacks.lanes import ATTACKS

__all__ = ["ATTACKS", "gradient", "latent", "multi_targeted", "random_search", "spsa", "square"]
