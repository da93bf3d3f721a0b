"""Which attacks run, on which images, in which order: the suites, and when enough images were
attacked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.lane_batch import Goal
from paradise_cli.attacks.session.ledger import Entry
from paradise_cli.attacks.session.session import Arena
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import seed_of
from paradise_cli.core.registry import did_you_mean

EVERY = 10**6
"""More targets than there are classes: all wrong ones."""
FIRST_LOOK = 100
"""Images before the first look at the interval; each further look doubles them."""


@dataclass(frozen=True)
class Stage:
    """One attack of a suite; `black_box` ones use no gradient of the classifier itself."""

    attack: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    black_box: bool = False
    goal: Goal = "fool"

    @property
    def name(self) -> str:
        """What people see."""
        return self.title or self.attack

    def hyper_in(self, norm: str) -> dict[str, Any]:
        """Hyper-parameters in this norm: a step of a pixel level is long in L-infinity and short in
        L2.
        """
        return {
            key: value for key, value in self.hyper.items() if key != "step_size" or norm == "linf"
        }


@dataclass(frozen=True)
class Suite:
    """Stages, cheap ones first; each on the survivors of those before, or each on all images
    (`apart`).
    """

    stages: tuple[Stage, ...]
    apart: bool = False
    transfer: bool = False


SUITES: dict[str, Suite] = {
    "quick": Suite(
        (
            Stage("apgd", {"loss": "ce", "steps": 50}, "APGD-CE"),
            Stage("multi_targeted", {"steps": 100, "restarts": 1}, "Multi-Targeted"),
        )
    ),
    "standard": Suite(
        (
            Stage("apgd", {"loss": "ce", "steps": 100}, "APGD-CE"),
            Stage("apgd_targeted", {"steps": 100}, "APGD-T"),
            Stage("fab_targeted", {"steps": 100}, "FAB-T"),
            Stage("square", {"queries": 5000, "rescale": False}, "Square", black_box=True),
        )
    ),
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
        apart=True,
    ),
    "transfer": Suite(
        (
            Stage("fgsm", {}, "FGSM", black_box=True),
            Stage("r_fgsm", {}, "R+FGSM", black_box=True),
            Stage("step_rand", {}, "Step-Rand", black_box=True),
            Stage("iter_rand", {}, "Iter-Rand", black_box=True),
            Stage("pgd_rand", {"steps": 200}, "PGD-Rand", black_box=True),
            Stage("pgd", {"steps": 100, "loss": "margin"}, "PGD margin", black_box=True),
        ),
        apart=True,
        transfer=True,
    ),
    "targeted": Suite(
        (
            Stage("pgd_rand", {"steps": 200}, "PGD-Rand 200, reaches its target", goal="reach"),
            Stage("pgd", {"steps": 200, "step_size": 1 / 255, "loss": "margin"}, "PGD-200 margin"),
        ),
        apart=True,
    ),
}


@dataclass(frozen=True)
class StageResult:
    """One stage on the rows `attacked`, of which those in `fell` fell; `source` is what it was made
    on.
    """

    stage: Stage
    attacked: tuple[int, ...]
    fell: Mapping[int, Entry]
    source: str | None = None

    @property
    def name(self) -> str:
        return self.stage.name + (f" from {self.source}" if self.source else "")


def suite_named(name: str) -> Suite:
    """The suite of that name; raises UsageError for another."""
    if name not in SUITES:
        raise UsageError(
            f"unknown suite '{name}'{did_you_mean(name, list(SUITES))}; known: {', '.join(SUITES)}"
        )
    return SUITES[name]


def run_suite(
    arena: Arena,
    suite: Suite,
    eps: float,
    rows: Sequence[int],
    *,
    carried: Mapping[int, Entry] | None = None,
    sources: Mapping[str, Function] | None = None,
) -> list[StageResult]:
    """Every stage on the images of these rows that are classified rightly.

    Images `carried` fell at a smaller eps: what fooled the classifier there is within this ball
    too, and a suite whose stages go on with the survivors does not attack them again.
    """
    right = [row for row in rows if bool(arena.right[row])]
    standing = right if suite.apart else [row for row in right if row not in (carried or {})]
    results, arena.of = [], len(rows)
    for stage in suite.stages:
        hyper = stage.hyper_in(arena.norm)
        if suite.transfer:
            for name, source in (sources or {}).items():
                fell = arena.transfer(
                    stage.attack, eps, right, source, source_name=name, hyper=hyper
                )
                results.append(StageResult(stage, tuple(right), fell, name))
            continue
        # A target can be reached from any image, also one that is misclassified.
        attacked = list(rows) if stage.goal == "reach" else standing
        fell = arena.attack(stage.attack, eps, attacked, hyper=hyper, goal=stage.goal)
        results.append(StageResult(stage, tuple(attacked), fell))
        if not suite.apart:
            standing = [row for row in standing if row not in fell]
    return results


class Fall(NamedTuple):
    """What an image fell to first, and whether that used no gradient of the classifier itself."""

    name: str
    entry: Entry
    black_box: bool


def worst_case(results: Iterable[StageResult], right: Tensor) -> dict[int, Fall]:
    """Of each image classified rightly (bool [N]) that some stage fooled, the first stage that did.

    A target that was reached is a wrong class too.
    """
    found: dict[int, Fall] = {}
    for result in results:
        for row, entry in result.fell.items():
            if bool(right[row]):
                found.setdefault(row, Fall(result.name, entry, result.stage.black_box))
    return found


def random_order(ids: Sequence[str], seed: int) -> list[int]:
    """All rows in an order that depends on the images alone, not on where they stand."""
    return sorted(range(len(ids)), key=lambda row: (seed_of(seed, "order", ids[row]), row))


def looks(n: int) -> Iterator[int]:
    """How many images are attacked before each look at the interval, the last time all n."""
    size = FIRST_LOOK
    while size < n:
        yield size
        size *= 2
    yield n
