"""What is attacked: one classifier and its images, examined once and never changed after that."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import (
    AGREE,
    Behaviour,
    Classifier,
    Function,
    apart,
    logit_spread,
)
from paradise_cli.attacks.engine.compiled import compiled
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.attacks.engine.jobs import digests, drawn_target, reached
from paradise_cli.attacks.engine.own_code import own_code
from paradise_cli.attacks.engine.passes import Passes
from paradise_cli.attacks.session.identity import Known, code_of, fingerprint
from paradise_cli.core.errors import ParadiseError, UsageError


@dataclass(frozen=True)
class Subject:
    """A classifier with the images it is attacked on, as `Subject.examine` found both.

    Images are float32 [N, C, H, W] in [0, 1] with labels int64 [N], on the CPU. `logits` are the
    classifier's own of the clean images, [N, classes], and `correct`, bool [N], says which images
    it classifies correctly. `ids` tell images apart wherever they stand; with `seed` they decide
    all noise. `code` is as in `code_of`. `turned_random`: it gave the same answer twice when it was
    examined, and not later.
    """

    function: Function
    images: Tensor
    labels: Tensor
    norm: Literal["linf", "l2"] | str
    compute: Compute
    seed: int
    behaviour: Behaviour
    classifier: Classifier
    logits: Tensor
    correct: Tensor
    ids: tuple[str, ...]
    code: Known | None
    turned_random: bool = False

    @classmethod
    def examine(
        cls,
        function: Function,
        images: Tensor,
        labels: Tensor,
        norm: Literal["linf", "l2"] | str,
        compute: Compute,
        seed: int = 0,
        *,
        turned_random: bool = False,
    ) -> "Subject":
        """Ask the classifier about the clean images and settle how it is to be attacked.

        Raises UsageError or ParadiseError for a classifier or labels that cannot be attacked.
        """
        behaviour = examine(function, images, labels, compute.device, compute.precision)
        before = own_code(function)
        if turned_random:
            # It may still give the same answers at the moment: what was seen once is believed.
            behaviour = replace(behaviour, random=True, batch_dependent=False)
        if behaviour.random:
            if compute.compiled:
                raise UsageError(
                    "a classifier that answers at random is not compiled (leave out --compile)"
                )
            # Gradients average several answers, each with a graph of its own in memory.
            compute = replace(compute, width=compute.random_width or compute.width)
        else:
            compute = compute.for_work(behaviour.operations)
        classifier = _classifier(function, compute, behaviour)
        if compute.compiled:
            classifier.quick = compiled(classifier, images, compute)
        logits = classifier.judge(images).cpu()
        # A logit that is no number is no class, whatever `argmax` makes of it.
        correct = (logits.argmax(1) == labels) & logits.isfinite().all(1)
        # By content: noise keyed so is the same wherever an image stands, and with whom.
        ids = tuple(digests(images))
        given = (function, images, labels, norm, compute, seed)
        code = code_of(function, behaviour, before)
        return cls(*given, behaviour, classifier, logits, correct, ids, code, turned_random)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for what is on record to be of this classifier, as JSON values."""
        known = fingerprint(self.function, self.behaviour, self.logits)
        return {"classifier": known, "code": self.code}

    def as_random(self) -> "Subject":
        """The same, examined anew as one that answers at random."""
        given = (self.function, self.images, self.labels, self.norm, self.compute, self.seed)
        found = Subject.examine(*given, turned_random=True)
        # What it took to find out was taken all the same.
        found.classifier.passes = self.classifier.passes
        return found

    def correct_rows(self, limit: int | None = None) -> list[int]:
        """Rows of images that are classified correctly, the first `limit` of them."""
        rows: list[int] = self.correct.nonzero().flatten().tolist()
        return rows[:limit]

    def not_there_yet(self, rows: Iterable[int]) -> list[int]:
        """Those of the rows whose image is not given the class drawn as its target as it is."""
        found = list(rows)
        labels, classes = self.labels[found], self.logits.shape[1]
        targets = torch.tensor(
            [
                drawn_target(label, classes, self.seed, self.ids[row])
                for row, label in zip(found, labels.tolist(), strict=True)
            ],
            dtype=torch.int64,
        )
        there = reached("reach", self.logits[found], labels, targets).tolist()
        return [row for row, done in zip(found, there, strict=True) if not done]

    def classifier_of(self, function: Function, asks: int = 1) -> Classifier:
        """Another function, asked at this subject's batch shape and as often as its classifier.

        It asks the classifier's own function so many times for an answer.
        """
        return _classifier(function, self.compute, self.behaviour, self.classifier.passes, asks)


@dataclass(frozen=True)
class TransferSource:
    """A classifier on which images are made that are then shown to the subject.

    `logits` are its own of the subject's clean images, [N, classes]; `fingerprint` tells it from
    another one of the same name.
    """

    name: str
    classifier: Classifier
    logits: Tensor
    fingerprint: str

    @classmethod
    def examine(cls, name: str, function: Function, subject: Subject) -> "TransferSource":
        """Ask it about the subject's clean images; raises as `Subject.examine`, with its name."""
        images, compute = subject.images, subject.compute
        try:
            behaviour = examine(function, images, subject.labels, compute.device, compute.precision)
        except ParadiseError as error:
            raise type(error)(f"source {name}: {error}") from error
        before = own_code(function)
        classifier = _classifier(function, compute, behaviour, subject.classifier.passes)
        logits = classifier.judge(images).cpu()
        code = code_of(function, behaviour, before)
        # Few digits: a digest knows no rounding, and weights and code tell the rest.
        known = [fingerprint(function, behaviour, logits, digits=2), code]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        return cls(name, classifier, logits, digest[:12])


def disagree(one: Tensor, other: Tensor) -> bool:
    """Whether two answers to the same images differ by more than rounding, logits [N, classes]."""
    return float(apart(one, other)) > AGREE * float(logit_spread(one))


def _classifier(
    function: Function,
    compute: Compute,
    behaviour: Behaviour,
    passes: Passes | None = None,
    asks: int = 1,
) -> Classifier:
    return Classifier(
        function,
        device=compute.device,
        width=compute.width,
        behaviour=behaviour,
        passes=passes,
        asks=asks,
    )
