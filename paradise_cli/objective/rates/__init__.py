"""The rate term alpha multiplies, one q-step of Blahut-Arimoto each; importing this fills the
registry.
"""

from paradise_cli.objective.rates import fitted, posteriors  # noqa: F401
from paradise_cli.objective.rates.base import RATES, Rate, RateValue

__all__ = ["RATES", "Rate", "RateValue"]
