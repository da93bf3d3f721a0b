"""Names of built-in sources and distortions, which a command checks before it loads torch."""

from typing import Literal, get_args

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import did_you_mean

Measure = Literal["hamming", "squared", "absolute"]
MEASURES = get_args(Measure)
KINDS = (".npz", ".json", ".npy")  # of files that hold a source
SOURCES = ("bernoulli", "uniform", "gaussian", "laplacian", "banana")


def check_source(name: str) -> None:
    """Raise UsageError for a name that is no built-in source."""
    if name not in SOURCES:
        raise UsageError(
            f"unknown source '{name}'{did_you_mean(name, SOURCES)}; known: {', '.join(SOURCES)},"
            " or a .npz, .json or .npy file"
        )


def check_measure(name: str) -> None:
    """Raise UsageError for a name that is no distortion."""
    if name not in MEASURES:
        raise UsageError(
            f"unknown distortion '{name}'{did_you_mean(name, MEASURES)}; known:"
            f" {', '.join(MEASURES)}"
        )
