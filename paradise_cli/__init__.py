"""PARADISE: rate-regularised stochastic encoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paradise_cli.attacks import attack as attack
    from paradise_cli.evaluation.certify import certify as certify
    from paradise_cli.hub.cards import zoo_names as zoo_names
    from paradise_cli.inference.loading import load as load
    from paradise_cli.library import evaluate as evaluate
    from paradise_cli.library import rate as rate
    from paradise_cli.library import train as train

__version__ = "0.1.0"
__all__ = ["__version__", "attack", "certify", "evaluate", "load", "rate", "train", "zoo_names"]

# Where each is defined. Names, not imports: a shell waits for every import before it prints help.
_HOMES = {
    "attack": "paradise_cli.attacks",
    "certify": "paradise_cli.evaluation.certify",
    "evaluate": "paradise_cli.library",
    "load": "paradise_cli.inference.loading",
    "rate": "paradise_cli.library",
    "train": "paradise_cli.library",
    "zoo_names": "paradise_cli.hub.cards",
}


def __getattr__(name: str) -> Any:
    """The functions of `__all__`, imported when first used: the command line starts without torch.

    Raises AttributeError for any other name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'paradise_cli' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # Without this a notebook would complete only what was used already.
    return sorted({*globals(), *_HOMES})
