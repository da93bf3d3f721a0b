"""What claims are about; importing this fills the registry."""

from paradise_cli.reproduction.quantities import (  # noqa: F401
    edits,
    encoders,
    gradients,
    posteriors,
    robustness,
    theory,
    trainings,
)
from paradise_cli.reproduction.quantities.base import QUANTITIES, Measured, Network

__all__ = ["QUANTITIES", "Measured", "Network"]
