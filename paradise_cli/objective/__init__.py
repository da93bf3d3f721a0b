"""What training minimises: D + alpha R + gamma M."""

from paradise_cli.objective.distortions import DISTORTIONS, Distortion
from paradise_cli.objective.rates import RATES, Rate, RateValue

__all__ = ["DISTORTIONS", "RATES", "Distortion", "Rate", "RateValue"]
