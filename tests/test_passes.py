"""Passes of the classifier: counted where they happen, so that nothing can go past."""

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.passes import Count, Passes
from paradise_cli.attacks.engine.surrogate import Scaled, Smoothed
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.randomness import generator

N = 6
IMAGES = torch.rand(N, 1, 4, 4, generator=generator(0, "passes"))


class Counting(nn.Module):
    """A linear classifier that counts for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(3, 16, generator=generator(0, "weights")))
            self.layer.bias.zero_()
        self.forwards = self.backs = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits: Tensor = self.layer(images.flatten(1))
        if logits.requires_grad:
            logits.register_hook(self.went_back)  # type: ignore[no-untyped-call]
        return logits

    def went_back(self, gradient: Tensor) -> None:
        self.backs += len(gradient)


def test_a_gradient_counts_when_it_is_taken_and_each_time() -> None:
    passes = Passes()
    x = torch.zeros(5, 2, requires_grad=True)
    answer = 2 * x
    passes.watch(answer)
    passes.watch(answer.detach())
    assert passes.count == (10, 0)
    for _ in range(2):
        torch.autograd.grad(answer.sum(), x, retain_graph=True)
    assert passes.count == (10, 10)
    assert passes.count.since(Count(4, 1)) == (6, 9)


def test_a_report_says_what_passed_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("undecided", (), (), ()))
    uncounted = []
    for suite in ("quick", "fast"):
        classifier = Counting().eval()
        labels = classifier(IMAGES).argmax(1)
        classifier.forwards = 0
        report = attack(classifier, IMAGES, labels, eps=0.1, suite=suite)
        spent = report.provenance.spent
        assert spent.audit[1] == 0
        forward, back = (N * sum(each) for each in zip(spent.suite, spent.audit, strict=True))
        uncounted.append((classifier.forwards - forward, classifier.backs - back))
        # Each step of an attack of these suites asks once for a gradient, and most are confirmed.
        assert 0 < back <= forward
    # The first looks at the classifier, and those at the points that are reported, are no part of
    # it: they are the same whatever runs between. Numbers are rounded to a tenth.
    (forward, back), others = uncounted
    assert -0.1 * N <= back <= 0.02 * classifier.backs
    assert others == (pytest.approx(forward, abs=0.2 * N), pytest.approx(back, abs=0.2 * N))


def test_a_classifier_behind_another_is_asked_as_often_as_is_counted() -> None:
    classifier = Counting().eval()
    labels = classifier(IMAGES).argmax(1)
    subject = Subject.examine(classifier, IMAGES, labels, "linf", Compute(torch.device("cpu"), N))
    for other, asks in ((Smoothed(classifier), Smoothed.asks), (Scaled(classifier, 2.0), 1)):
        asked, counted = classifier.forwards, subject.classifier.passes.count
        subject.classifier_of(other, asks)(IMAGES)
        assert classifier.forwards - asked == asks * N
        assert subject.classifier.passes.count.since(counted) == (asks * N, 0)
