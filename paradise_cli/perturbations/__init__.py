"""Which changes of an image count, and how they are drawn; importing this fills the registry."""

from paradise_cli.perturbations import adversarial  # noqa: F401  (registers its sampler)
from paradise_cli.perturbations.samplers import SAMPLERS, Encoder, Sampler

__all__ = ["SAMPLERS", "Encoder", "Sampler"]
