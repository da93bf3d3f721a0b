"""What votes under noise prove of a classifier: radii, and certified accuracy against them.

The certificates are those of randomised smoothing (Cohen, Rosenfeld, Kolter 2019; method.md 8).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from paradise_cli.core.errors import UsageError
from paradise_cli.core.proportions import Proportion, lower_bound
from paradise_cli.core.ranges import MOST_COPIES, real, seed_number, whole
from paradise_cli.core.units import counted

INTERVAL = "Wilson, 95%, at each radius by itself"
LARGEST_SIGMA = 10.0
"""Up to here float32 holds every sum of image and noise: see `lattice_noise`."""
_POINTS = 40  # of the curve, at round radii


@dataclass(frozen=True, kw_only=True)
class CertifySettings:
    """How a classifier is smoothed and asked; raises UsageError for what proves nothing.

    `sigma` is the standard deviation of the noise in pixel units, where pixels lie in [0, 1]. The
    class is guessed from `n0` noisy copies of an image, and its probability bounded from `samples`
    others. A certificate is wrong with a probability of at most `alpha`. With `clip` noisy images
    are clipped to [0, 1], as a part of the classifier.
    """

    sigma: float
    samples: int = 10_000
    n0: int = 100
    alpha: float = 0.001
    seed: int = 0
    clip: bool = False

    def __post_init__(self) -> None:
        for name, example in (("sigma", 0.25), ("alpha", 0.001)):
            number = real(getattr(self, name), name, f"a number, as {example}")
            object.__setattr__(self, name, number)
        if not 0 < self.sigma < math.inf:
            raise UsageError(
                f"sigma must be a number above 0, not {self.sigma:g}: the standard deviation of the"
                " noise, as 0.25 (--sigma)"
            )
        if self.sigma > LARGEST_SIGMA:
            raise UsageError(
                f"sigma {self.sigma:g} is more than {LARGEST_SIGMA:g} times the range of a pixel,"
                f" which lies in [0, 1]: for {self.sigma:g} levels of 8 bits write"
                f" {self.sigma:g}/255 (--sigma)"
            )
        for name in ("n0", "samples"):
            object.__setattr__(self, name, whole(getattr(self, name), name, 1, MOST_COPIES))
        object.__setattr__(self, "seed", seed_number(self.seed))
        if self.samples < self.n0:
            raise UsageError(
                f"samples must be at least n0 = {self.n0:,}, not {self.samples:,}: the bound needs"
                " more of them than the guess (--samples)"
            )
        if not 0 < self.alpha < 1:
            raise UsageError(f"alpha must lie between 0 and 1, not {self.alpha:g} (--alpha)")
        self._check_that_something_can_be_proved()

    def _check_that_something_can_be_proved(self) -> None:
        # Each of `samples` votes for one class: the best there is.
        if self.alpha ** (1 / self.samples) <= 0.5:
            enough = math.floor(math.log(self.alpha) / math.log(0.5)) + 1
            raise UsageError(
                f"{self.samples:,} samples prove nothing at alpha {self.alpha:g}, however they"
                f" vote: at least {enough:,} are needed (--samples)"
            )


@dataclass(frozen=True)
class Votes:
    """How often each class was answered, for the guess and for the bound; classes without a vote
    are left out.
    """

    guess: Mapping[int, int]
    bound: Mapping[int, int]


@dataclass(frozen=True)
class ImageCertificate:
    """What is proved of one image.

    The `guess` got so many `votes` of all samples, so that its probability under noise is at least
    `p_lower`. No change shorter than `radius`, in the Euclidean norm and pixel units, moves the
    smoothed classifier from it; it abstains where that proves nothing, and the radius is 0.
    """

    id: str
    label: int
    guess: int
    votes: int
    p_lower: float
    radius: float

    @property
    def abstains(self) -> bool:
        """Whether no class is certified to be the most probable one."""
        return self.radius <= 0

    @property
    def correct(self) -> bool:
        """Whether the label is certified."""
        return not self.abstains and self.guess == self.label


@dataclass(frozen=True)
class Certification:
    """Certificates of n images; `clean_accuracy` is that of the classifier without noise.

    `provenance` says what they were measured on and with.
    """

    images: tuple[ImageCertificate, ...]
    clean_accuracy: Proportion
    settings: CertifySettings
    provenance: Mapping[str, Any]

    def __repr__(self) -> str:
        share = self.certified_accuracy(0.0).value
        return (
            f"Certification({counted(len(self.images), 'image')}, sigma {self.settings.sigma:g}:"
            f" smoothed accuracy {share:.1%}, certified at {self.settings.sigma:g}:"
            f" {self.certified_accuracy(self.settings.sigma).value:.1%})"
        )

    def certified_accuracy(self, radius: float) -> Proportion:
        """Share of images that are classified rightly, provably, under any change up to `radius`.

        At 0 it is the accuracy of the smoothed classifier, abstentions counted as errors.
        """
        # Longer, not as long: at the radius itself the two classes may be equally probable.
        held = sum(image.correct and image.radius > radius for image in self.images)
        return Proportion.of(held, len(self.images))

    @property
    def abstained(self) -> Proportion:
        """Share of images of which no class is certified."""
        return Proportion.of(sum(image.abstains for image in self.images), len(self.images))

    @property
    def largest_radius(self) -> float:
        """What so many samples can prove at most, where all vote for one class."""
        settings = self.settings
        return radius_of(settings.alpha ** (1 / settings.samples), settings.sigma)

    def curve(self, points: int = _POINTS) -> list[tuple[float, Proportion]]:
        """Certified accuracy at round radii, at most so many steps from 0 to the largest."""
        step = round_step(self.largest_radius / points)
        count = math.floor(self.largest_radius / step) + 1
        # 0.15000000000000002 is nothing to write into a table.
        radii = [round(step * number, 9) for number in range(count)]
        return [(radius, self.certified_accuracy(radius)) for radius in radii]

    def to_json(self) -> dict[str, Any]:
        """Everything but the single images, as JSON values."""
        return {
            "n": len(self.images),
            "clean_accuracy": asdict(self.clean_accuracy),
            "smoothed_accuracy": asdict(self.certified_accuracy(0.0)),
            "abstained": asdict(self.abstained),
            "curve": [
                {"radius": radius, "certified_accuracy": asdict(share)}
                for radius, share in self.curve()
            ],
            "largest_radius": self.largest_radius,
            "norm": "l2",
            "interval": INTERVAL,
            "settings": {**asdict(self.settings), **self.provenance},
        }


def certificate(
    id: str, label: int, votes: Votes, settings: CertifySettings, *, error: float, moved: float
) -> ImageCertificate:
    """The certificate that the votes on one image give.

    `error` bounds what the sampling may add to a probability; the image itself lies at the distance
    `moved` from where the noise was added, which its radius loses.
    """
    # The first of equals, so that the same votes give the same guess; none where all were NaN.
    guess = max(sorted(votes.guess), key=lambda c: votes.guess[c], default=0)
    count = votes.bound.get(guess, 0)
    p_lower = max(0.0, lower_bound(count, settings.samples, settings.alpha) - error)
    radius = max(0.0, radius_of(p_lower, settings.sigma) - moved)
    return ImageCertificate(id, label, guess, count, p_lower, radius)


def radius_of(p_lower: float, sigma: float) -> float:
    """sigma * Phi^-1(p_lower), and 0 where the class may not be the most probable one."""
    return sigma * NormalDist().inv_cdf(p_lower) if p_lower > 0.5 else 0.0


def round_step(least: float) -> float:
    """The smallest of 1, 2.5 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step for f in (1.0, 2.5, 5.0, 10.0) if (step := f * power) >= least)
