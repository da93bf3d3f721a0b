"""The suites: which attacks run, on which images, in which order, and how many images suffice."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from paradise_cli.attacks.engine.jobs import Goal
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import TransferSource
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import seed_of
from paradise_cli.core.registry import did_you_mean

EVERY = 10**6
"""More targets than there are classes: all wrong ones."""
FIRST_LOOK = 100
"""Images before the first look at the interval; each further look doubles them."""


@dataclass(frozen=True)
class Stage:
    """One attack of a suite; `black_box` ones use no gradient of the classifier itself.

    Those towards the `nearest` classes aim at these in turn, not at the likeliest.
    """

    attack: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    black_box: bool = False
    goal: Goal = "fool"
    nearest: bool = False

    @property
    def name(self) -> str:
        """What people see."""
        return self.title or self.attack

    def hyper_in(self, norm: str) -> dict[str, Any]:
        """Hyper-parameters in this norm."""
        # A step of one pixel level is long in L-infinity and hardly one in L2, where attacks have a
        # default that goes with eps.
        dropped = {"step_size"} if norm != "linf" else set()
        return {key: value for key, value in self.hyper.items() if key not in dropped}


@dataclass(frozen=True)
class Suite:
    """Stages, cheap ones first, each on what stands after those before it.

    Stages that are `independent` attack all images; those of `transfer` attack other classifiers.
    Where the audit speaks against what a suite found, the one it is `backed_by` goes on from there.
    """

    stages: tuple[Stage, ...]
    independent: bool = False
    transfer: bool = False
    backed_by: str = ""

    def backed(self) -> "Suite":
        """These stages, and on what still stands those of the suite behind it."""
        return replace(self, stages=(*self.stages, *SUITES[self.backed_by].stages), backed_by="")


def _towards_nearest(first: int, steps: int, targets: int) -> tuple[Stage, ...]:
    """So many `first` steps of cross-entropy, then so many `steps` towards each nearest class."""
    hyper = {"steps": steps, "targets": targets, "loss": "margin"}
    return (
        # Named apart from those of the suite behind it, which may stand in the same table.
        Stage("apgd", {"loss": "ce", "steps": first}, f"APGD-CE, {first} steps"),
        Stage("apgd_targeted", hyper, "APGD-T, nearest", nearest=True),
    )


SUITES: dict[str, Suite] = {
    # Nearly every image that AutoAttack breaks falls towards one of the three classes that are
    # nearest by the tangent, most to the first steps of cross-entropy.
    "quick": Suite(_towards_nearest(first=10, steps=30, targets=1)),
    "fast": Suite(_towards_nearest(first=20, steps=60, targets=3), backed_by="standard"),
    # AutoAttack (method.md 5.3), with its steps and queries.
    "standard": Suite(
        (
            Stage("apgd", {"loss": "ce", "steps": 100}, "APGD-CE"),
            Stage("apgd_targeted", {"steps": 100}, "APGD-T"),
            Stage("fab_targeted", {"steps": 100}, "FAB-T"),
            # AutoAttack's driver runs the first half of the schedule for 10,000 queries.
            Stage("square", {"queries": 5000, "rescale": False}, "Square", black_box=True),
        )
    ),
    # Each attack on every image, as tables of papers have one column for each.
    "paper": Suite(
        (
            Stage("pgd", {"steps": 200, "step_size": 1 / 255, "loss": "ce"}, "PGD-200 CE"),
            Stage("pgd", {"steps": 200, "step_size": 1 / 255, "loss": "margin"}, "PGD-200 margin"),
            Stage("untargeted", {"steps": 200, "restarts": 20}, "Untargeted 200x20"),
            Stage(
                "multi_targeted",
                {"steps": 200, "restarts": 20, "targets": EVERY},
                "Multi-Targeted 200x20",
            ),
        ),
        independent=True,
    ),
    # None sees a gradient of the classifier itself, though all follow those of another one.
    "transfer": Suite(
        (
            Stage("fgsm", {}, "FGSM", black_box=True),
            Stage("r_fgsm", {}, "R+FGSM", black_box=True),
            Stage("step_rand", {}, "Step-Rand", black_box=True),
            Stage("iter_rand", {}, "Iter-Rand", black_box=True),
            Stage("pgd_rand", {"steps": 200}, "PGD-Rand", black_box=True),
            Stage("pgd", {"steps": 100, "loss": "margin"}, "PGD margin", black_box=True),
        ),
        independent=True,
        transfer=True,
    ),
    # How often an attacker gets the class he wants, beside how often he gets any wrong one.
    "targeted": Suite(
        (
            Stage("pgd_rand", {"steps": 200}, "PGD-Rand 200, reaches its target", goal="reach"),
            Stage("pgd", {"steps": 200, "step_size": 1 / 255, "loss": "margin"}, "PGD-200 margin"),
        ),
        independent=True,
    ),
}


IN_FP32 = Stage("apgd_targeted", {"steps": 100}, "APGD-T again, in fp32")
"""What is tried once more after a search in bf16."""


@dataclass(frozen=True)
class StageResult:
    """One stage on the rows `attacked`, of which it broke those in `broken`.

    `source` names the other classifier on which its images were made, if there is one. What stands
    after a `cumulative` one has stood against all before it too; time has `cut_short` some.
    """

    stage: Stage
    attacked: tuple[int, ...]
    broken: Mapping[int, Entry]
    source: str | None = None
    cumulative: bool = False
    cut_short: bool = False

    @property
    def name(self) -> str:
        return self.stage.name + (f" from {self.source}" if self.source else "")

    def titled(self, title: str) -> "StageResult":
        """The same under another name."""
        return replace(self, stage=replace(self.stage, title=title))


def suite_named(name: str) -> Suite:
    """The suite of that name; raises UsageError for another."""
    if name not in SUITES:
        raise UsageError(
            f"unknown suite '{name}'{did_you_mean(name, list(SUITES))}; known: {', '.join(SUITES)}"
        )
    return SUITES[name]


def run_suite(
    session: Session,
    suite: Suite,
    eps: float,
    rows: Sequence[int],
    *,
    carried: Mapping[int, Entry] | None = None,
    sources: Sequence[TransferSource] = (),
) -> list[StageResult]:
    """Every stage on the images of these rows that are classified correctly.

    Images `carried` were broken at a smaller eps: what fooled the classifier there is within this
    ball too, and stages that go on with what stands do not attack them again.
    """
    # Nothing needs to be done for what is misclassified as it is: it counts as broken.
    correct = [row for row in rows if bool(session.subject.correct[row])]
    standing = [row for row in correct if row not in (carried or {})]
    results: list[StageResult] = []
    with session.phase(denominator=len(rows)):
        for stage in suite.stages:
            if suite.transfer:
                results += _transferred(session, stage, eps, correct, sources)
                continue
            attacked = correct if suite.independent else standing
            if stage.goal == "reach":
                # Also from an image that is misclassified, unless it is there as it is.
                attacked = session.subject.not_there_yet(rows)
            hyper = stage.hyper_in(session.subject.norm)
            with session.phase() as phase:
                broken = session.attack(
                    stage.attack, eps, attacked, hyper=hyper, goal=stage.goal,
                    # The audit goes on from where they ended, and would have to make them again.
                    keep_ends=stage.black_box, nearest=stage.nearest,
                )  # fmt: skip
                late = phase.cut_short_as(stage.name)
            results.append(
                StageResult(
                    stage, tuple(attacked), broken, cumulative=not suite.independent, cut_short=late
                )
            )
            standing = [row for row in standing if row not in broken]
    return results


def run_in_fp32(
    session: Session, suite: Suite, eps: float, standing: Sequence[int], *, denominator: int
) -> list[StageResult]:
    """After a search in bf16, the strongest targeted attack in fp32 on what still stands.

    Rounding to bf16 hides the way to about one image of 200. This costs what APGD-T costs in fp32,
    of images that stand; after a search in fp32, and of transferred images, there is nothing to do.
    """
    if session.subject.compute.precision == "fp32" or suite.transfer:
        return []
    with session.phase(denominator=denominator) as phase:
        hyper = IN_FP32.hyper
        broken = session.attack(IN_FP32.attack, eps, standing, hyper=hyper, precision="fp32")
        late = phase.cut_short_as(IN_FP32.name)
    return [StageResult(IN_FP32, tuple(standing), broken, cumulative=True, cut_short=late)]


def _transferred(
    session: Session,
    stage: Stage,
    eps: float,
    rows: Sequence[int],
    sources: Sequence[TransferSource],
) -> Iterator[StageResult]:
    """One stage, made on each source in turn."""
    hyper = stage.hyper_in(session.subject.norm)
    for source in sources:
        with session.phase() as phase:
            broken = session.transfer(stage.attack, eps, rows, source, hyper=hyper)
            late = phase.cut_short_as(f"{stage.name} from {source.name}")
        yield StageResult(stage, tuple(rows), broken, source.name, cut_short=late)


class Break(NamedTuple):
    """What broke an image first, and whether that used no gradient of the classifier itself."""

    name: str
    entry: Entry
    black_box: bool


def worst_case(results: Iterable[StageResult], correct: Tensor) -> dict[int, Break]:
    """Of each image classified correctly (bool [N]) that some stage broke, the first that did.

    A target that was reached is a wrong class too.
    """
    found: dict[int, Break] = {}
    for result in results:
        for row, entry in result.broken.items():
            # The first in the order of stages, so that the table says who broke what.
            if bool(correct[row]):
                found.setdefault(row, Break(result.name, entry, result.stage.black_box))
    return found


def random_order(ids: Sequence[str], seed: int) -> list[int]:
    """All rows in an order that depends on the images alone, not on where they stand."""
    # Equal images have equal keys: their rows decide, so that each comes once.
    return sorted(range(len(ids)), key=lambda row: (seed_of(seed, "order", ids[row]), row))


def looks(n: int) -> Iterator[int]:
    """How many images are attacked before each look at the interval, the last time all n."""
    # Each look costs some width of the interval (Bonferroni): doubling keeps them few.
    size = FIRST_LOOK
    while size < n:
        yield size
        size *= 2
    yield n
