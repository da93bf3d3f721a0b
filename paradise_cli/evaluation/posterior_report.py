"""What posteriors alone tell of an encoder: its rate, its latents, and what labels justify."""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.core.units import BITS, counted, significant
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.information.latents import Latents, latents
from paradise_cli.information.rate import ExactRate
from paradise_cli.information.rate_interval import AT_CAP, RateInterval, rate_interval

FOLDS = 5
FEWEST_A_CLASS = 2  # labelled points, on average
FEWEST_LABELLED = 2 * FOLDS
PROBE = (
    "D is the cross-entropy of a logistic regression probe (L2, C = 1, standardised sampled z) on"
    f" the fold it did not see, of {FOLDS}: of no trained classifier, so the excess contains what"
    " the probe misses"
)


@dataclass(frozen=True)
class Labelled:
    """D + R - H(Y) in nats over n labelled points, >= 0 up to its error where x decides y
    (method.md 2.6).

    D is a probe's, H(Y) the plug-in entropy of the labels, R the exact I_N of all points: where
    that is `at_cap`, the excess too may be any larger.
    """

    n: int
    classes: int
    distortion: float
    distortion_error: float
    entropy: float
    entropy_error: float
    excess: float
    excess_error: float
    at_cap: bool
    probe: str = PROBE


@dataclass(frozen=True)
class PosteriorReport:
    """All measurements of N posteriors; nats."""

    n: int
    rate: RateInterval
    latents: Latents
    labelled: Labelled | None

    def __repr__(self) -> str:
        parts = [f"I(X;Z) {self.rate.population}", f"I_N {significant(self.rate.exact.nats)} nats"]
        parts.append(f"{self.latents.active} of {self.latents.dimensions} dimensions active")
        if self.latents.concentric:
            parts.append(f"{self.latents.concentric} concentric")
        if self.labelled is not None:
            parts.append(f"D + I_N - H(Y) {significant(self.labelled.excess)} nats")
        return f"PosteriorReport({counted(self.n, 'posterior')}: {', '.join(parts)})"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; rates, entropies and excess also in bits."""
        value = asdict(self) | {"rate": self.rate.to_json()}
        if self.labelled is not None:
            for name in ("distortion", "entropy", "excess"):
                value["labelled"][f"{name}_bits"] = value["labelled"][name] * BITS
        return value


def report(
    posterior: Gaussian,
    classes: Tensor | None = None,
    *,
    seed: int = 0,
    batch_size: int = 128,
    draws: int = 1,
    progress: Callable[[int], None] | None = None,
) -> PosteriorReport:
    """Measure N posteriors, with their classes int64 [N] (-1: unknown) where there are any.

    Options and errors as `rate_interval`; UsageError for classes that are `unfit`.
    """
    if classes is not None and (reason := unfit(classes)):
        raise UsageError(f"labels: {reason}")
    rate = rate_interval(
        posterior, seed=seed, batch_size=batch_size, draws=draws, progress=progress
    )
    labelled = None if classes is None else label_excess(posterior, classes, rate.exact, seed=seed)
    return PosteriorReport(len(posterior.mu), rate, latents(posterior), labelled)


def label_excess(
    posterior: Gaussian, classes: Tensor, exact: ExactRate, *, seed: int = 0
) -> Labelled:
    """D + R - H(Y) of N posteriors, over the m of them whose class is not -1; by the seed."""
    noise = torch.randn(posterior.mu.shape, generator=generator(seed, "probe"), dtype=torch.float64)
    z = posterior.double().rsample(noise.to(posterior.mu.device)).cpu()
    known = (classes >= 0).cpu()
    numbers = torch.from_numpy(np.unique(classes.cpu()[known], return_inverse=True)[1])  # [m]
    distortion = torch.from_numpy(_probe(z[known].numpy(), numbers.numpy(), seed))  # [m]
    surprise = -(numbers.bincount().double() / len(numbers)).log()[numbers]  # [m]
    mean_d, error_d = _mean(distortion)
    mean_h, error_h = _mean(surprise)
    # Point by point, as a point that is hard to classify may be of a rare class.
    gap = _mean(distortion - surprise)
    return Labelled(
        n=len(numbers),
        classes=len(numbers.bincount()),
        distortion=mean_d,
        distortion_error=error_d,
        entropy=mean_h,
        entropy_error=error_h,
        excess=gap[0] + exact.nats,
        excess_error=math.hypot(gap[1], exact.standard_error),
        at_cap=exact.nats > exact.cap - AT_CAP,
    )


def unfit(classes: Tensor) -> str | None:
    """Why classes, int64 [N] (-1: unknown), are no classes for a probe; None if they fit."""
    known = classes[classes >= 0].tolist()
    if len(known) < FEWEST_LABELLED:
        return f"{len(known)} labelled rows, the probe needs at least {FEWEST_LABELLED}"
    kinds = len(set(known))
    if kinds * FEWEST_A_CLASS > len(known):
        return f"{kinds:,} kinds in {len(known):,} rows are no classes"
    return None


def _mean(values: Tensor) -> tuple[float, float]:
    """Mean and standard error."""
    return float(values.mean()), math.sqrt(float(values.var()) / len(values))


def _probe(z: NDArray[np.float64], y: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """-log p(y|z) in nats by a probe that was fitted without the fold of each point, [m]."""
    # Seconds to load, and only labels need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Random folds: rows that are sorted by class would leave each fold without its own.
    order = permutation(len(y), seed, "probe folds").numpy()
    classes = int(y.max()) + 1
    nll = np.empty(len(y))
    for fold in np.array_split(order, FOLDS):
        rest = np.setdiff1d(order, fold)
        p = np.zeros((len(fold), classes))
        if len(seen := np.unique(y[rest])) == 1:
            p[:, seen] = 1.0
        else:
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
            with warnings.catch_warnings():
                # Any probe, also one that has not converged, is an upper bound of H(Y|Z).
                warnings.simplefilter("ignore", ConvergenceWarning)
                p[:, seen] = probe.fit(z[rest], y[rest]).predict_proba(z[fold])
        # A class that the rest lacks must not cost infinitely much.
        p = (1 - 1 / len(y)) * p + 1 / (len(y) * classes)
        nll[fold] = -np.log(p[np.arange(len(fold)), y[fold]])
    return nll
