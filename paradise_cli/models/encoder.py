"""The stochastic encoder: normalisation, backbone, Gaussian head and named task heads."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.modes import eval_mode
from paradise_cli.core.randomness import normal_draws
from paradise_cli.core.registry import did_you_mean
from paradise_cli.information.gaussian import DiagonalGaussian, FullGaussian, Gaussian
from paradise_cli.models.base import Backbone, Features, Head, Shape, is_frozen, require_positive
from paradise_cli.models.classifier import PixelClassifier, at_least_float32


class StochasticEncoder(nn.Module):
    """p(z|x) = N(mu(x), diag sigma(x)^2), or N(mu(x), L(x) L(x)^T), and the heads that read z.

    Images are float [B, C, H, W] in [0, 1], normalised inside by (x - mean) / std per channel (0
    and 1 where not given) unless the backbone is frozen. sigma = softplus(rho - sigma_shift) +
    sigma_floor (method.md 2.1), and of a full covariance the diagonal of L, whose other entries are
    linear in the features (2.8). With stochastic=False sigma is 0, there is no rho layer, and the
    other initial weights are those of the stochastic model of the same seed. Backbone and heads may
    run under autocast; mu and sigma are computed in the precision of the weights. Raises UsageError
    for a mean, std, latent_dim or head name that cannot be used.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Head],
        *,
        latent_dim: int,
        in_shape: Shape,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        stochastic: bool = True,
        covariance: Literal["diagonal", "full"] = "diagonal",
        sigma_shift: float = 0.0,
        sigma_floor: float = 1e-4,
    ) -> None:
        super().__init__()
        require_positive("model", latent_dim=latent_dim)
        self.latent_dim = latent_dim
        self.in_shape = in_shape
        self.stochastic = stochastic
        self.sigma_shift = sigma_shift
        self.sigma_floor = sigma_floor
        # A frozen backbone normalises by itself.
        if not is_frozen(backbone):
            # Buffers: normalisation travels with the weights, so nobody has to repeat it.
            self.register_buffer("mean", _per_channel("mean", mean, 0.0, in_shape[0]))
            self.register_buffer("std", _per_channel("std", std, 1.0, in_shape[0]))
        if std is not None and min(std) <= 0:
            raise UsageError(f"model: std must be positive, not {std}")
        self.backbone: Backbone = backbone
        self.heads = nn.ModuleDict(_checked_names(heads))
        self.mu = nn.Linear(backbone.out_features, latent_dim)
        # Last, so that a deterministic model of the same seed starts from the same weights.
        self.rho = nn.Linear(backbone.out_features, latent_dim) if stochastic else None
        below = latent_dim * (latent_dim - 1) // 2
        # With one latent there is nothing to tilt.
        full = stochastic and covariance == "full" and latent_dim > 1
        self.tilt = nn.Linear(backbone.out_features, below) if full else None

    def features(self, images: Tensor) -> Tensor:
        """What the backbone gives, [B, F]; raises ParadiseError for images of another shape."""
        if tuple(images.shape[1:]) != tuple(self.in_shape):
            raise ParadiseError(
                f"the model reads images {_shape(self.in_shape)}, not {_shape(images.shape[1:])}"
            )
        if not is_frozen(self.backbone):
            images = (images - self.mean) / self.std
        found: Tensor = self.backbone(images)
        return found

    def encode(self, images: Tensor) -> Gaussian:
        """Posterior of each image, [B, K]; errors as `features`."""
        features = self.features(images)
        # A bf16 sigma has three digits, and the rate divides by it.
        with torch.autocast(images.device.type, enabled=False):
            features = features.to(self.mu.weight.dtype)
            mu = self.mu(features)
            if self.rho is None:
                return DiagonalGaussian(mu, torch.zeros_like(mu))
            sigma = softplus(self.rho(features) - self.sigma_shift) + self.sigma_floor
            if self.tilt is None:
                return DiagonalGaussian(mu, sigma)
            factor = torch.diag_embed(sigma)
            size = self.latent_dim
            row, column = torch.tril_indices(size, size, offset=-1, device=factor.device)
            factor[:, row, column] = self.tilt(features)
            return FullGaussian(mu, factor)

    def encode_settled(self, images: Tensor) -> Gaussian:
        """`encode` in eval mode, differentiable; each module's mode is restored.

        Images that are no data then leave the running statistics alone.
        """
        with eval_mode(self):
            return self.encode(images)

    def behind_backbone(self) -> "StochasticEncoder":
        """The same encoder, and these very weights, from features [B, F, 1, 1] on.

        They are those that its frozen backbone gives.
        """
        rest = copy.copy(self)
        rest.in_shape = (self.backbone.out_features, 1, 1)
        # What `copy` has left shared, so that the backbone here stays.
        rest._modules = {**self._modules, "backbone": Features(self.backbone.out_features)}
        return rest

    def decode(self, z: Tensor) -> dict[str, Tensor]:
        """Each head's output for z [B, K], at least float32: logits or pre-sigmoid pixels."""
        return {name: at_least_float32(head(z)) for name, head in self.heads.items()}

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Gaussian, Tensor, dict[str, Tensor]]:
        """Posterior, z drawn by noise and each head's output; noise [B, K] ~ N(0, I)."""
        posterior = self.encode(images)
        z = posterior.rsample(noise)
        return posterior, z, self.decode(z)

    def classifier(
        self, samples: int = 0, head: str | None = None, seed: int = 0
    ) -> PixelClassifier:
        """Pixels [B, C, H, W] to log-probabilities [B, classes]: the only thing that may judge a
        model.

        samples = 0 classifies the posterior mean; samples = k averages the probabilities of k
        draws. The noise of a draw is a function of the seed and the draw's number alone, the same
        for every image, call and k: the answer for an image does not depend on its batch, and
        fresh noise is another seed. Differentiable in the pixels, and always in eval mode; each
        module's mode is restored after the call. Raises ParadiseError for a model without
        classification head, or with several when `head` does not say which.
        """
        if samples < 0:
            raise UsageError(
                f"classifier: samples must be 0 (posterior mean) or more, not {samples}"
            )
        decoder = self.heads[self._logits_head(head)]
        # Drawn once: every call then answers for the same function, which an attack relies on.
        one_row = torch.zeros(1, dtype=torch.int64)
        noise = normal_draws(one_row, samples, self.latent_dim, seed, "classifier")[0]
        return PixelClassifier(self.encode_settled, decoder, noise)

    def _logits_head(self, head: str | None) -> str:
        names = [name for name, module in self.heads.items() if module.kind == "logits"]
        known = ", ".join(names)
        if not names:
            raise ParadiseError(
                f"this model has no classification head, only: {', '.join(self.heads) or 'none'}"
            )
        if head is None and len(names) > 1:
            raise ParadiseError(
                f"this model has several classification heads; say which one of: {known}"
            )
        if head is not None and head not in names:
            hint = did_you_mean(head, names)
            raise ParadiseError(f"no classification head '{head}'{hint}; this model has: {known}")
        return head or names[0]


@dataclass(frozen=True)
class EncoderWithHead:
    """What samplers see of a model in training: each latent's posterior, and one head's logits.

    In whatever mode `module`, the whole model, is in.
    """

    module: StochasticEncoder
    head: nn.Module | None

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """See `StochasticEncoder.encode`; without correlations."""
        return self.module.encode(images).marginals()

    def logits(self, z: Tensor) -> Tensor:
        """Logits [B, classes] of z [B, K], at least float32."""
        assert self.head is not None, "a recipe is refused whose sampler needs a head it lacks"
        return at_least_float32(self.head(z))


def _per_channel(
    name: str, values: Sequence[float] | None, default: float, channels: int
) -> Tensor:
    values = [default] * channels if values is None else values
    if len(values) != channels:
        raise UsageError(
            f"model: {name} has {len(values)} values, the images have {channels} channels"
        )
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def _checked_names(heads: Mapping[str, Head]) -> dict[str, nn.Module]:
    # Heads live in a ModuleDict: its own attributes, as `keys`, cannot be heads.
    taken = nn.ModuleDict()
    for name in heads:
        if not name or "." in name or hasattr(taken, name):
            raise UsageError(
                f"model: a task cannot be named '{name}'; choose another word, without a dot"
            )
    return dict(heads)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
