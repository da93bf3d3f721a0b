"""Trained encoders of a vector Gaussian against reverse water-filling, from the runs of a sweep.

paradise sweep recipes/gaussian_source.yaml --alpha 0.1:4:9
python benchmarks/gaussian_source.py --sweep sweeps/gaussian-source

The encoder being linear, its rate has a closed form: I = 1/2 log det(W Sigma W^T + E sigma^2) - E
log sigma.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import finish, options, report
from torch import Tensor

from paradise_cli.core.randomness import generator
from paradise_cli.inference.loading import load
from paradise_cli.information.closed_forms import gaussian

FRESH = 1_000_000  # examples that no training saw, for the distortion


def linear_rate(weight: Tensor, variances: Tensor, sigma: Tensor) -> float:
    """I(X;Z) in nats of z = W x + sigma(x) e: an upper bound, and exact where sigma [N, K] is
    constant.
    """
    covariance = weight * variances @ weight.T + torch.diag(sigma.square().mean(0))
    return float(0.5 * torch.linalg.slogdet(covariance).logabsdet - sigma.log().sum(1).mean())


@dataclass(frozen=True)
class Run:
    """What a run reached, and the optimum for its alpha; nats, and the distortion of every
    coordinate.
    """

    alpha: float
    batch_size: int
    rate: float
    each: Tensor
    best_rate: float
    best_each: Tensor

    @property
    def distortion(self) -> float:
        return float(self.each.sum())

    @property
    def best_distortion(self) -> float:
        return float(self.best_each.sum())

    @property
    def errors(self) -> tuple[float, float, float]:
        """Relative, of R, of D, and the largest of a D_k."""
        return (
            abs(self.rate / self.best_rate - 1),
            abs(self.distortion / self.best_distortion - 1),
            float((self.each / self.best_each - 1).abs().max()),
        )


@torch.no_grad()
def measure(run: Path) -> Run:
    """The run in the folder `run`, its distortion over fresh examples."""
    loaded = load(str(run), "cpu")
    recipe, model = loaded.recipe, loaded.model.double()
    variances = torch.tensor(recipe.data.hyper["variances"], dtype=torch.float64)
    shape = (FRESH, len(variances))
    x = variances.sqrt() * torch.randn(shape, generator=generator(1), dtype=torch.float64)
    posterior = model.encode(x.view(FRESH, *loaded.info.shape))
    noise = torch.randn(posterior.mu.shape, generator=generator(2), dtype=torch.float64)
    drawn = next(iter(model.heads.values()))(posterior.rsample(noise))
    best = variances.clamp(max=recipe.objective.alpha / 2)
    return Run(
        recipe.objective.alpha,
        recipe.train.batch_size,
        linear_rate(model.mu.weight, variances, posterior.sigma),
        (drawn.flatten(1) - x).square().mean(0),
        gaussian(variances.tolist()).rate(float(best.sum())),
        best,
    )


if __name__ == "__main__":
    chosen = options(__doc__, sweep=None)
    runs = [measure(path) for path in sorted(chosen.sweep.glob("points/*"))]
    for run in sorted(runs, key=lambda run: run.alpha):
        rate, distortion, each = run.errors
        print(
            f"alpha {run.alpha:.4g}: R {run.rate:.4f} of {run.best_rate:.4f} nats, D"
            f" {run.distortion:.4f} of"
            f" {run.best_distortion:.4f}, errors {rate:.2%}, {distortion:.2%}, worst D_k {each:.2%}"
        )
    rates, distortions, each_worst = zip(*(run.errors for run in runs), strict=True)
    report("largest error of R", max(rates), 0.01, at_least=False)
    report("largest error of D", max(distortions), 0.02, at_least=False)
    report("largest error of a D_k", max(each_worst), 0.02, at_least=False)
    above = sum(run.best_rate > math.log(run.batch_size) for run in runs)
    report("points with R above log B", above, 3, at_least=True)
    what = "Encoders of 8 independent Gaussians against reverse water-filling"
    finish(chosen, what=what, data=f"gaussian_source, {FRESH:,} fresh examples")
