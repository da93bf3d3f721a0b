"""The one loop and what it must remember."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paradise_cli.training.optim import OPTIMIZERS as OPTIMIZERS
    from paradise_cli.training.optim import SCHEDULES as SCHEDULES

__all__ = ["OPTIMIZERS", "SCHEDULES"]


def __getattr__(name: str) -> Any:
    """The registries, when first used: a run folder is found without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'paradise_cli.training' has no attribute '{name}'")
    from paradise_cli.training import optim

    return getattr(optim, name)
