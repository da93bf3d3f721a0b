"""A classifier, images and a ledger: whoever attacks here attacks each image once and remembers it."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from paradise_cli.attacks.classifier import Behaviour, Classifier, Function, examine
from paradise_cli.attacks.engine import Compute, Goal, Job, run_jobs
from paradise_cli.attacks.eot import Averaged
from paradise_cli.attacks.jobs import digests, jobs_of
from paradise_cli.attacks.lanes import ATTACKS, Attack, Victim
from paradise_cli.attacks.ledger import Entry, Ledger
from paradise_cli.attacks.threat import threat_model

EOT_DRAWS = 20
"""Answers of a classifier that draws at random behind each gradient."""

Pulse = Callable[[str, int, int], None]
"""Told what is being done, and how much of it is done, of how much; may raise to stop."""


@dataclass
class Arena:
    """What is attacked: images float32 [N, C, H, W] in [0, 1] with labels int64 [N], on the CPU.

    `seed` and an image's pixels decide all noise. Raises as `examine` for a classifier or labels that cannot
    be attacked.
    """

    function: Function
    images: Tensor
    labels: Tensor
    norm: Literal["linf", "l2"] | str
    compute: Compute
    seed: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    pulse: Pulse = lambda what, done, total: None

    def __post_init__(self) -> None:
        self.behaviour: Behaviour = examine(self.function, self.images, self.labels, self.compute.device)
        self.classifier = self.hosted(self.function)
        self.ids = digests(self.images)
        self.logits = self.classifier.judge(self.images).cpu()  # [N, classes]
        self.right = (self.logits.argmax(1) == self.labels) & self.logits.isfinite().all(1)  # [N]

    def hosted(self, function: Function) -> Classifier:
        """Another classifier of the same kind, such as a smoothed copy, to be attacked here."""
        compute = self.compute
        return Classifier(function, device=compute.device, width=compute.width, random=self.behaviour.random)

    def correct(self, limit: int | None = None) -> list[int]:
        """Rows that are classified rightly, the first `limit` of them."""
        rows: list[int] = self.right.nonzero().flatten().tolist()
        return rows[:limit]

    def attack(
        self,
        name: str,
        eps: float,
        rows: Iterable[int],
        *,
        hyper: Mapping[str, Any] | None = None,
        goal: Goal = "fool",
        victim: Victim | None = None,
        begin: Mapping[int, Tensor] | None = None,
        tag: str = "",
    ) -> dict[int, Entry]:
        """Run an attack of the registry on these rows, and give the entries of the images that fell.

        What the ledger knows is not run again. With another `victim` the attack looks for its way there, and
        success is still decided by the arena's own classifier; such an attack, or one that begins at given
        points, needs a `tag` that tells it apart.
        """
        attack, label = self._made(name, eps, hyper or {}, goal, tag)
        rows, victim = list(rows), victim or self.classifier
        jobs = jobs_of(name + tag, attack, self.logits, self.labels, self.ids, rows, self.seed)
        jobs = [job for job in jobs if self._open(label, job)]
        if jobs:
            total = attack.steps * len(jobs)
            for outcome in run_jobs(
                attack, victim, self.classifier.judge, self.images, self.labels, jobs, self.compute,
                goal=goal, begin=begin, pulse=lambda done: self.pulse(name + tag, done, total),
            ):  # fmt: skip
                job, point = outcome.job, outcome.point
                distance = float(attack.threat.distance(point[None], self.images[job.image][None]))
                reached = point if outcome.succeeded else None
                self.ledger.add(Entry(label, job.image, job.run, job.target, outcome.step, distance, reached))
            self.ledger.settle()
        return {row: entry for row in rows if (entry := self.ledger.fell(label, row)) is not None}

    def _open(self, label: str, job: Job) -> bool:
        """Whether a run has not ended yet and may still count."""
        fell = self.ledger.fell(label, job.image)
        return job.run not in self.ledger.runs(label, job.image) and (fell is None or job.run < fell.run)

    def _made(
        self, name: str, eps: float, hyper: Mapping[str, Any], goal: Goal, tag: str
    ) -> tuple[Attack, str]:
        attack = ATTACKS[name](threat_model(self.norm, eps), **hyper)
        given = {"eps": eps, **{key: value for key, value in hyper.items() if not isinstance(value, Tensor)}}
        if self.behaviour.random and attack.gradient:
            attack, given["eot"] = Averaged(attack, EOT_DRAWS), EOT_DRAWS
        if goal != "fool":
            given["goal"] = goal
        return attack, f"{name}{tag} {json.dumps(given, sort_keys=True)}"


def accuracy(right: Tensor, fallen: Iterable[int]) -> float:
    """Share of all images that are classified rightly and did not fall."""
    standing = right.clone()
    standing[torch.tensor(list(fallen), dtype=torch.int64)] = False
    return float(standing.double().mean())
