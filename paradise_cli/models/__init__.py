"""Stochastic encoders, their backbones and heads; importing this fills both registries."""

from paradise_cli.models import conv, frozen, mlp, resnet, wide_resnet  # noqa: F401
from paradise_cli.models.base import BACKBONES, HEADS, HEADS_OF, Backbone, Head
from paradise_cli.models.encoder import StochasticEncoder

__all__ = ["BACKBONES", "HEADS", "HEADS_OF", "Backbone", "Head", "StochasticEncoder"]
