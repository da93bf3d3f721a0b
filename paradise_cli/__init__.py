"""PARADISE: rate-regularised stochastic encoders."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paradise_cli.inference.loading import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`paradise_cli.load`, imported when first used: the command line starts without torch."""
    if name == "load":
        from paradise_cli.inference.loading import load

        return load
    raise AttributeError(f"module 'paradise_cli' has no attribute '{name}'")
