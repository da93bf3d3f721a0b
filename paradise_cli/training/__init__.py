"""The one loop and what it must remember."""

from paradise_cli.training.optim import OPTIMIZERS, SCHEDULES

__all__ = ["OPTIMIZERS", "SCHEDULES"]
