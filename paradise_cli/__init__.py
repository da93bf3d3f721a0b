"""PARADISE: rate-regularised stochastic encoders."""

__version__ = "0.1.0"
