"""What an attack is asked to do, checked before anything is attacked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paradise_cli.attacks.session.suite import SUITES, Suite, suite_named
from paradise_cli.core.errors import UsageError, printable
from paradise_cli.core.given import text_given
from paradise_cli.core.ranges import MOST_AT_ONCE, MOST_IMAGES, real, seed_number, whole
from paradise_cli.perturbations.threat import NORMS, radius_text, threat_model

ESTIMATED, ESTIMATED_CI = "standard", 0.005
"""The suite that is estimated, and how narrow either way where nothing else is asked for."""
AUDITED = 200
"""Images that the audit attacks in its own ways."""
MOST_RADII = 100  # each is an attack on every image that the smaller ones did not fool
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """Threat, suite and effort of an attack; raises UsageError for what means nothing.

    `eps` and the further radii of the `curve` are in pixel units, as 8/255. With `ci` images are
    attacked in a random order until no end of the interval is further off than that; `budget` is
    in seconds. `audited` images are attacked by the audit in its own ways. The search runs in
    `precision` (fp32 decides), in a `compiled` copy of the classifier, and on `batch_size` images
    at once: matters of speed and memory.
    """

    eps: float
    norm: str = "linf"
    suite: str = "standard"
    seed: int = 0
    curve: Sequence[float] = ()
    ci: float | None = None
    budget: float | None = None
    audited: int = AUDITED
    precision: str = "auto"
    compiled: bool = False
    batch_size: int | None = None
    estimate: bool = False

    def __post_init__(self) -> None:
        # A number may come as a tensor or a numpy scalar; what is kept is what JSON can hold.
        self._keep("eps", real(self.eps, "eps", "a number in pixel units, as 8/255"))
        try:
            self._keep("curve", tuple(real(each, "curve") for each in self.curve))
        except (TypeError, UsageError) as error:
            raise UsageError(
                f"curve is a list of numbers in pixel units, not {printable(repr(self.curve), 40)}"
            ) from error
        for name, known in (("norm", NORMS), ("suite", SUITES), ("precision", PRECISIONS)):
            allowed = f"one of {', '.join(known)}"
            self._keep(name, text_given(getattr(self, name), name, allowed))
        # Norm and radii are checked by whoever uses them, here before anything is loaded.
        for level in self.levels:
            threat_model(self.norm, level)
        suite_named(self.suite)
        self._check_effort()
        if self.estimate:
            self._check_estimate()

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_effort(self) -> None:
        if len(self.levels) > MOST_RADII:
            given = len(self.levels)
            raise UsageError(f"{given:,} radii; at most {MOST_RADII} are allowed (--curve)")
        for name, kind in (("ci", "a number, as 0.01"), ("budget", "a number of seconds, as 3600")):
            if getattr(self, name) is not None:
                self._keep(name, real(getattr(self, name), name, kind))
        # At 0.5 an interval would be all of [0, 1].
        if self.ci is not None and not 0 < self.ci < 0.5:
            raise UsageError(
                f"ci must lie between 0 and 0.5, not {self.ci:g}: write 1% or 0.01 (--ci)"
            )
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError(
                f"budget must be a number of seconds above 0, not {self.budget:g} (--budget)"
            )
        # Numpy's whole numbers become Python's, which JSON can hold.
        self._keep("audited", whole(self.audited, "audited", 1, MOST_IMAGES))
        self._keep("seed", seed_number(self.seed))
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"unknown precision '{self.precision}'; known: {', '.join(PRECISIONS)}"
            )
        if self.batch_size is not None:
            self._keep("batch_size", whole(self.batch_size, "batch_size", 1, MOST_AT_ONCE))

    def _check_estimate(self) -> None:
        if self.suite != ESTIMATED:
            raise UsageError(
                f"estimate goes with suite {ESTIMATED}: before suite {self.suite} there is no"
                " cheaper one to tell which images stand"
            )
        if self.curve:
            raise UsageError("estimate is of one eps: leave out curve")
        if self.ci is None:
            self._keep("ci", ESTIMATED_CI)

    @property
    def levels(self) -> list[float]:
        """All radii, from small to large."""
        return sorted({self.eps, *self.curve})

    @property
    def eps_text(self) -> str:
        """The radius as people write it, 8/255 for 0.03137."""
        return self.words_for(self.eps)

    def words_for(self, radius: float) -> str:
        """Any radius or distance of this norm, as people write it."""
        return radius_text(self.norm, radius)

    def suite_with(self, sources: Mapping[str, Any]) -> Suite:
        """The stages; raises UsageError for sources that the suite lacks or has no use for."""
        suite = suite_named(self.suite)
        if not isinstance(sources, Mapping):
            raise UsageError(
                f"sources are classifiers by name, as {{'a': classifier}}, not in a"
                f" {type(sources).__name__}"
            )
        if suite.transfer and not sources:
            raise UsageError(
                "suite transfer makes its images on other classifiers: give sources (--source)"
            )
        if sources and not suite.transfer:
            raise UsageError(
                f"suite {self.suite} uses no sources (--source): leave them out, or choose suite"
                " transfer"
            )
        return suite
