"""Does the method hold on this machine? Its identities against derived values (method.md 9)."""

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from paradise_cli.core.errors import Interrupted, ParadiseError
from paradise_cli.core.processes import COMMAND, python_path
from paradise_cli.core.randomness import generator
from paradise_cli.core.storage import load_tensors
from paradise_cli.information.blahut_arimoto import DiscreteSource, blahut_arimoto
from paradise_cli.information.gaussian import DiagonalGaussian, log_density_matrix
from paradise_cli.information.known_sources import bernoulli
from paradise_cli.information.rate import exact_rate
from paradise_cli.information.tabular import descend
from paradise_cli.objective.rates import RATES
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.train import train
from paradise_cli.training.loop import Reporter
from paradise_cli.training.run_folder import RunFolder

B, K = 64, 8
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Check:
    """What was compared, how far apart it was, and how far it may be."""

    name: str
    measured: float
    bound: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the measured difference is within the bound; NaN is not."""
        return self.measured <= self.bound


def run_checks(device: torch.device) -> Iterator[Check]:
    """Each check as it is done; about half a minute in all."""
    for name, bound, measure in CHECKS:
        started = time.monotonic()
        yield Check(name, measure(device), bound, time.monotonic() - started)


def _draw(purpose: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "selftest", purpose), dtype=torch.float64)


def _posterior(
    device: torch.device, spread: float = 1.0, n: int = B, k: int = K
) -> DiagonalGaussian:
    mu, sigma = spread * _draw("mu", n, k), (0.5 * _draw("sigma", n, k)).exp()
    return DiagonalGaussian(mu.to(device), sigma.to(device))


def fixed_prior(device: torch.device) -> float:
    """Against torch.distributions."""
    posterior = _posterior(device)
    ours = RATES["fixed"](K)(posterior, posterior.mu).rate
    prior = torch.distributions.Normal(
        torch.zeros_like(posterior.mu), torch.ones_like(posterior.mu)
    )
    theirs = torch.distributions.kl_divergence(torch.distributions.Normal(*posterior), prior).sum(1)
    return float((ours - theirs).abs().max())


def blahut_arimoto_bounds(device: torch.device) -> float:
    """How far the closed form of a coin lies outside the certified bounds, or how wide they are."""
    known = bernoulli(0.3)
    assert known.closed_form is not None
    source = DiscreteSource(
        known.source.probabilities.to(device), known.source.distortion.to(device)
    )
    slopes = torch.logspace(0, 1, 10, dtype=torch.float64)
    worst = 0.0
    for point in blahut_arimoto(source, slopes, tolerance=1e-9).points:
        exact = known.closed_form.rate(point.distortion)
        worst = max(worst, point.lower - exact, exact - point.upper, point.gap)
    return worst


def eq5_descent(device: torch.device) -> float:
    """How much F ever rises, or ends above exact Blahut-Arimoto, over 10 random sources."""
    worst = 0.0
    for number in range(10):
        draw = generator(0, "selftest", "table", number)
        p = torch.rand(4, generator=draw, dtype=torch.float64) + 0.1
        d = torch.rand(4, 4, generator=draw, dtype=torch.float64)
        source = DiscreteSource((p / p.sum()).to(device), d.to(device))
        values = descend(source, TABLE_ALPHA, TABLE_STEPS)
        (point,) = blahut_arimoto(source, torch.tensor([1 / TABLE_ALPHA]), tolerance=1e-9).points
        best = point.distortion + TABLE_ALPHA * point.upper
        worst = max(
            worst, float(values.diff().max()), float(values[-1]) - best, best - float(values[-1])
        )
    return worst


TABLE_ALPHA, TABLE_STEPS = 0.2, 2000


def gradient_modes(device: torch.device) -> float:
    """The largest difference between mean gradients, in standard errors of the noise."""
    posterior = _posterior(device, n=8, k=2)
    noise = _draw("modes", 400, 8, 2).to(device)
    gradients = {
        mode: torch.stack([_gradient(posterior, e, mode) for e in noise]) for mode in MODES
    }
    worst = 0.0
    for mode in MODES[1:]:
        difference = gradients[mode] - gradients[MODES[0]]  # [draws, 8, 2]
        error = difference.std(0) / math.sqrt(len(noise))
        worst = max(worst, float((difference.mean(0).abs() / error).max()))
    return worst


MODES = ("paper", "full", "path")


def _gradient(posterior: DiagonalGaussian, noise: Tensor, mode: str) -> Tensor:
    mu = posterior.mu.clone().requires_grad_()
    attached = DiagonalGaussian(mu, posterior.sigma)
    loss = RATES["batch"](2, gradient=mode)(attached, attached.rsample(noise)).loss.mean()
    (gradient,) = torch.autograd.grad(loss, mu)
    return gradient


def exact_rate_ends(device: torch.device) -> float:
    """Posteriors far apart carry log N, identical ones nothing."""
    # A spread of ten thousand sigmas leaves no overlap that float64 could hold.
    far = _posterior(device, spread=1e4)
    same = DiagonalGaussian(torch.zeros_like(far.mu), torch.ones_like(far.sigma))
    return max(abs(exact_rate(far).nats - math.log(B)), abs(exact_rate(same).nats))


def two_products(device: torch.device) -> float:
    """Two matrix products against the sum over dimensions."""
    posterior = _posterior(device)
    z = posterior.rsample(_draw("z", B, K).to(device))
    own = torch.distributions.Normal(*posterior)
    direct: Tensor = own.log_prob(z[:, None]).sum(2)  # type: ignore[no-untyped-call]
    return float((log_density_matrix(z, posterior) - direct).abs().max())


def linear_gaussian(device: torch.device) -> float:
    """Relative error of D and R of a linear autoencoder, trained on N(0, 1.7) at alpha 0.6."""
    # The water level alpha / 2 lies below the variance, so that R is not 0 (method.md 1.3).
    alpha, variance = 0.6, 1.7
    encode, decode = (nn.Linear(1, 1, bias=False).double().to(device) for _ in range(2))
    nn.init.constant_(encode.weight, 1.0)
    nn.init.constant_(decode.weight, 0.5)
    log_sigma = nn.Parameter(torch.zeros(1, dtype=torch.float64, device=device))
    rate = RATES["fitted"](1).to(device)
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters(), log_sigma], lr=0.02)
    x = math.sqrt(variance) * _standard_quantiles(256).to(device)[:, None]
    found = []
    for _ in range(600):
        posterior = DiagonalGaussian(encode(x), log_sigma.exp().expand_as(x))
        # E (x - g z)^2 over the noise, in closed form.
        distortion = (x - decode(posterior.mu)).square() + (
            decode.weight * posterior.sigma
        ).square()
        value = rate(posterior, posterior.mu)
        optimizer.zero_grad()
        (distortion.mean() + alpha * value.loss.mean()).backward()
        optimizer.step()
        found.append((float(distortion.detach().mean()), float(value.rate.mean())))
    # Adam circles around the optimum: the mean of its last steps is nearer than any of them.
    d, r = (math.fsum(column) / 50 for column in zip(*found[-50:], strict=True))
    theory = alpha / 2, 0.5 * math.log(2 * variance / alpha)
    return max(abs(d / theory[0] - 1), abs(r / theory[1] - 1))


def _standard_quantiles(n: int) -> Tensor:
    """n points with the mean 0 and the variance 1 of N(0, 1)."""
    # Quantiles, not draws: 256 draws would miss the variance by a tenth.
    points: Tensor = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return points / points.square().mean().sqrt()


def kill_and_resume(device: torch.device) -> float:
    """The largest difference of weights between a training and one that was killed and went on."""
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        command = [*COMMAND, "train", "digits", "--out", str(killed), "--device", str(device)]
        command += [text for change in CHANGES for text in ("--set", change)]
        own = os.environ | {"PYTHONPATH": python_path()}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=own
        )
        while process.poll() is None and not list(RunFolder(killed).checkpoints.glob("step-*")):
            time.sleep(POLL_SECONDS)
        # Not a signal that it could answer: as a power cut would.
        process.kill()
        if process.wait() > 0:  # not killed, nor done
            raise ParadiseError(
                "the check's training failed: run `paradise train digits` to see why"
            )
        recipe = load_recipe("digits", CHANGES).recipe
        try:
            for folder in (whole, killed):
                train(recipe, out=folder, device=str(device), report=Reporter())
        except Interrupted as stopped:  # nobody goes on from a temporary folder
            raise KeyboardInterrupt from stopped
        a, b = (load_tensors(RunFolder(folder).model)[0] for folder in (whole, killed))
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


# Of the digits; three latents are not drawn, and it has checkpoints to be killed after.
CHANGES = ("train.epochs=6", "model.latent_dim=3", "train.checkpoint_minutes=1e-3")


CHECKS: tuple[tuple[str, float, Callable[[torch.device], float]], ...] = (
    ("fixed prior = analytic KL, nats", 1e-9, fixed_prior),
    ("two-product log-density = direct, nats", 1e-8, two_products),
    ("exact rate: log N far apart, 0 identical, nats", 1e-9, exact_rate_ends),
    ("Blahut-Arimoto bounds hold the closed form, nats", 1e-9, blahut_arimoto_bounds),
    ("Eq. 5 on tables falls to Blahut-Arimoto", 1e-3, eq5_descent),
    ("gradient modes agree in mean, standard errors", 5.0, gradient_modes),
    ("linear-Gaussian optimum, relative", 0.02, linear_gaussian),
    ("killed and resumed = uninterrupted, largest weight difference", 0.0, kill_and_resume),
)
