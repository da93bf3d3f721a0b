"""q of a family of its own, fixed, fitted or learned: an upper bound of the rate, without a cap."""

from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from paradise_cli.core.errors import UsageError
from paradise_cli.data.base import DataInfo
from paradise_cli.information.gaussian import (
    DiagonalGaussian,
    Gaussian,
    kl_to_gaussian,
    log_density_matrix,
)
from paradise_cli.objective.rates.base import RATES, Rate, RateValue, full_precision

# Of 0 and 1, where the sigmoid has no slope, pseudo-inputs that start from images keep this far.
EDGE = 0.01
# Of 1 no batch would be looked at.
Momentum: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class FixedRate(Rate):
    """q is N(0, I), never learned: beta-VAE and DVIB."""

    bound = "upper"
    separable = True

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        rate = posterior.kl_to_standard_normal()
        return RateValue(rate, rate.detach())


class MomentsRate(Rate):
    """A q that knows the running moments of the aggregate posterior, constants of each step as q_t
    in Eq. 5.

    E KL(p(z|x) || r) = I(X;Z) + KL(q || r): an upper bound for any r, without a cap.
    """

    bound = "upper"
    first: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self, latent_dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("first", torch.zeros(latent_dim, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(latent_dim, latent_dim, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    def moments(self, posterior: Gaussian) -> tuple[Tensor, Tensor]:
        """Mean [K] and covariance [K, K], in training after a look at this batch."""
        if self.training:
            self._observe(posterior.detach())
        # Averages that began at 0 are too small by the weight that they have seen.
        mean = self.first / self.weight
        return mean, self.second / self.weight - torch.outer(mean, mean)

    def _observe(self, posterior: Gaussian) -> None:
        """Move the running raw moments of the aggregate posterior towards those of this batch."""
        mu = posterior.mu
        second = mu.T @ mu / len(mu) + posterior.mean_covariance()  # law of total variance
        self.first.lerp_(mu.mean(0), 1 - self.momentum)
        self.second.lerp_(second, 1 - self.momentum)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.momentum)


class FittedRate(MomentsRate):
    """q is a Gaussian with the running moments of the aggregate posterior."""

    def __init__(
        self, latent_dim: int, covariance: Literal["full", "diagonal"], momentum: float
    ) -> None:
        super().__init__(latent_dim, momentum)
        self.covariance = covariance

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        with full_precision(z.device):
            posterior = posterior.double()
            mean, covariance = self.moments(posterior)
            if self.covariance == "diagonal":
                covariance = torch.diag(covariance.diagonal())
            rate = kl_to_gaussian(posterior, mean, covariance)
            return RateValue(rate, rate.detach())


class MixtureRate(MomentsRate):
    """q is a learned mixture of diagonal Gaussians, in units of the aggregate posterior's mean and
    spread.

    In these units, which follow the latents as they move and grow, a fixed start and one learning
    rate suit every encoder. The components are constants of the rate, and trained by their own
    loss: q is fitted as fast under a small alpha as under a large one.
    """

    learned = True

    def __init__(
        self, latent_dim: int, components: int, gradient: Literal["paper", "path"], momentum: float
    ) -> None:
        super().__init__(latent_dim, momentum)
        self.gradient = gradient
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(0.1 * torch.randn(components, latent_dim))
        self.log_sigma = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        with full_precision(z.device):
            z, posterior = z.double(), posterior.double()
            mean, covariance = self.moments(posterior)
            scale = covariance.diagonal().sqrt()
            means, sigma = self.means.double(), self.log_sigma.double().exp()
            # Their gradient in units of sigma^2, the natural one: so plain SGD can fit narrow
            # components.
            means = means.detach() + sigma.detach().square() * (means - means.detach())
            components = DiagonalGaussian(mean + scale * means, scale * sigma)
            weights = self.logits.double().log_softmax(0)
            log_q = log_mixture(z, components.detach(), weights.detach())
            loss = log_own(posterior, z, self.gradient == "path") - log_q
            return RateValue(loss, loss.detach(), -log_mixture(z.detach(), components, weights))


class VampRate(Rate):
    """q is the mixture of the posteriors of learned pseudo-inputs (Tomczak and Welling 2018).

    Its components move with the encoder, so it is not a constant of the step: the rate's gradient
    reaches encoder and pseudo-inputs through it, times alpha.
    """

    bound = "upper"
    learned = True
    separable = True

    def __init__(
        self, shape: tuple[int, int, int], components: int, gradient: Literal["full", "path"]
    ) -> None:
        super().__init__()
        self.examples = components
        self.gradient = gradient
        self.logits = nn.Parameter(torch.logit(torch.rand(components, *shape), EDGE))

    @property
    def pseudo_inputs(self) -> Tensor:
        return self.logits.sigmoid()

    @torch.no_grad()
    def start(self, images: Tensor) -> None:
        self.logits.copy_(torch.logit(images, EDGE))

    def forward(self, posterior: Gaussian, z: Tensor, pseudo: Gaussian | None = None) -> RateValue:
        assert pseudo is not None
        with full_precision(z.device):
            z, posterior = z.double(), posterior.double()
            weights = z.new_zeros(self.examples).log_softmax(0)
            log_q = log_mixture(z, pseudo.double(), weights)
            loss = log_own(posterior, z, self.gradient == "path") - log_q
            return RateValue(loss, loss.detach())


def log_mixture(z: Tensor, components: Gaussian, log_weights: Tensor) -> Tensor:
    """log sum_k w_k N(z_i; component k) in nats, [B]; `log_weights` [C]."""
    return (log_density_matrix(z, components) + log_weights).logsumexp(1)


def log_own(posterior: Gaussian, z: Tensor, path: bool) -> Tensor:
    """log p(z|x) [B]: at z with the posterior's parameters held constant, else its expectation
    -H.
    """
    return posterior.detach().log_prob(z) if path else -posterior.entropy()


@RATES.register
def fitted(
    latent_dim: int,
    info: DataInfo | None = None,
    *,
    covariance: Literal["full", "diagonal"] = "full",
    momentum: Momentum = 0.99,
) -> Rate:
    """A Gaussian q by moment matching: an upper bound that never saturates (method.md 2.6)."""
    return FittedRate(latent_dim, covariance, momentum)


@RATES.register
def fixed(latent_dim: int, info: DataInfo | None = None) -> Rate:
    """q = N(0, I): beta-VAE and DVIB (method.md 2.7)."""
    return FixedRate()


@RATES.register
def mixture(
    latent_dim: int,
    info: DataInfo | None = None,
    *,
    components: int = 20,
    gradient: Literal["paper", "path"] = "paper",
    momentum: Momentum = 0.99,
) -> Rate:
    """A learned mixture of `components` diagonal Gaussians: `fitted` for clustered latents
    (method.md 2.6).

    `paper` takes the entropy of p(z|x) in closed form, `path` both densities at the sampled z; one
    expected gradient.
    """
    _require_components("mixture", components)
    return MixtureRate(latent_dim, components, gradient, momentum)


@RATES.register
def vamp(
    latent_dim: int,
    info: DataInfo,
    *,
    components: int = 100,
    gradient: Literal["full", "path"] = "full",
) -> Rate:
    """VampPrior: q is the mixture of the posteriors of `components` learned images, first training
    images.

    `full` takes the entropy of p(z|x) in closed form, `path` holds p(z|x) constant at the sampled
    z; one expected gradient.
    """
    _require_components("vamp", components)
    return VampRate(info.shape, components, gradient)


def _require_components(name: str, components: int) -> None:
    if components < 1:
        raise UsageError(f"rate {name}: components must be at least 1, not {components}")
