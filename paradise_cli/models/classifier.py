"""The classifier of a stochastic encoder, and what lies between its pixels and its classes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from paradise_cli.core.modes import eval_mode
from paradise_cli.information.gaussian import Gaussian


class PixelClassifier:
    """Pixels [B, C, H, W] to log-probabilities [B, classes], see `StochasticEncoder.classifier`.

    `noise` is [samples, K]: the probabilities of that many draws are averaged, or with none of them
    those of the posterior mean are given. `posterior` maps pixels to p(z|x), [B, K], in eval mode.
    """

    def __init__(
        self, posterior: Callable[[Tensor], Gaussian], decoder: nn.Module, noise: Tensor
    ) -> None:
        self.posterior, self.decoder, self.noise = posterior, decoder, noise

    def __call__(self, images: Tensor) -> Tensor:
        posterior, samples = self.posterior(images), len(self.noise)
        if not samples:
            return self.classify(posterior.mu)
        draws = posterior.rsample(
            self.noise.to(posterior.mu, non_blocking=True).unsqueeze(1)
        )  # [k, B, K]
        each = self.classify(draws.flatten(0, 1)).view(samples, len(images), -1)
        return each.logsumexp(0) - math.log(samples)  # [B, classes]

    def classify(self, z: Tensor) -> Tensor:
        """Log-probabilities [B, classes] of z [B, K], in eval mode and at least float32."""
        with eval_mode(self.decoder):
            return log_softmax(at_least_float32(self.decoder(z)), 1)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where that is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
