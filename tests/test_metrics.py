"""Intervals, calibration and ranks against closed forms and plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paradise_cli.core.proportions import wilson
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.metrics import TaskScores, calibration_error, judge
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.objective.objective import Task


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (720, 1000, 69.1, 74.7),
        (698, 2000, 32.8, 37.0),
        (7204, 10000, 71.2, 72.9),
        (0, 1000, 0, 0.38),
    ],
)
def test_wilson_interval_of_the_method_reference(k, n, low, high):
    assert [100 * end for end in wilson(k, n)] == pytest.approx([low, high], abs=0.05)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(pair):
    k, n = pair
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson(0, 0) == (0, 1)


def test_wilson_ends_are_where_the_score_test_is_196():
    for end in wilson(37, 90):
        assert abs(37 / 90 - end) / math.sqrt(end * (1 - end) / 90) == pytest.approx(1.96, abs=1e-4)


def naive_calibration(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if b / bins < c <= (b + 1) / bins or (b == 0 and c == 0)
        ]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([1, 8, 16]),
)
def test_calibration_error_is_that_of_a_plain_loop(pairs, bins):
    confidence, correct = ([pair[i] for pair in pairs] for i in (0, 1))
    found = calibration_error(
        torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct), bins
    )
    assert found == pytest.approx(naive_calibration(confidence, correct, bins), abs=1e-12)


def test_calibration_error_closed_forms():
    sure = torch.ones(10)
    assert calibration_error(sure, torch.arange(10) < 7) == pytest.approx(0.3)
    assert calibration_error(sure, torch.ones(10)) == 0
    # Those that are sure lie in one bin with the nearly sure: 0.975 was said, 0.95 came true.
    nearly = torch.cat([sure, torch.full((10,), 0.95)])
    assert calibration_error(nearly, torch.arange(20) != 3) == pytest.approx(0.025)
    # Over- and underconfidence in different bins do not cancel.
    mixed = torch.tensor([0.9, 0.9, 0.6, 0.6])
    assert calibration_error(mixed, torch.tensor([1, 0, 1, 1])) == pytest.approx(0.4)


def test_judgement_closed_forms():
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    judged = judge(logits, torch.tensor([0, 2, 1]))
    p = logits[0].double().softmax(0)
    assert judged.rank.tolist() == [0, 2, 1]  # of equal ones, the first is the prediction
    assert judged.nll[:2].tolist() == pytest.approx([-math.log(p[0]), -math.log(p[2])])
    assert judged.nll[2] == pytest.approx(math.log(3))
    assert judged.confidence.tolist() == pytest.approx([float(p[0]), float(p[0]), 1 / 3])
    assert judged.brier[0] == pytest.approx(float((1 - p[0]) ** 2 + p[1] ** 2 + p[2] ** 2))
    assert judged.brier[2] == pytest.approx(6 / 9)


def test_logits_that_are_not_numbers_are_never_right():
    for bad in ([math.nan] * 3, [math.inf, 0, 0]):
        assert judge(torch.tensor([bad]), torch.tensor([0])).rank[0] > 0


@given(st.integers(0, 1000), st.integers(2, 9))
def test_rank_zero_is_the_argmax(key, classes):
    logits = torch.randint(0, 3, (20, classes), generator=generator(key)).float()
    labels = torch.randint(0, classes, (20,), generator=generator(key, "labels"))
    first = torch.tensor([row.index(max(row)) for row in logits.tolist()])
    assert torch.equal(judge(logits, labels).rank == 0, first == labels)


def scores_of(labels, classes=7, batch=4):
    task = Task("t", DISTORTIONS["cross_entropy"](), target=1)
    logits = torch.randn(len(labels), classes, generator=generator("logits"))
    columns = torch.stack([torch.full_like(labels, -1), labels], 1)
    scores = TaskScores(task)
    for part, rows in zip(logits.split(batch), columns.split(batch), strict=True):
        scores.add(part, part + 1, torch.zeros(len(part), 1, 2, 2), rows)
    return scores, logits


def test_what_lies_between_views_is_told_by_its_own_mean():
    """One of four orthogonal embeddings: certain at the mean, log 4 where z says nothing."""
    scores = TaskScores(Task("t", DISTORTIONS["info_nce"](temperature=0.01)))
    scores.add(torch.eye(4), torch.ones(4, 4), torch.zeros(4, 1, 2, 2), torch.zeros(4, 0))
    assert scores.mean() == pytest.approx(0, abs=1e-6)
    assert scores.distortion().sampled == pytest.approx(math.log(4), abs=1e-6)


def test_unlabelled_images_count_for_nothing():
    labels = torch.tensor([3, -1, 0, -1, -1, -1, -1, -1, 6])
    scores, logits = scores_of(labels)
    found, kept = scores.classification(), labels >= 0
    expected = torch.nn.functional.cross_entropy(logits[kept], labels[kept])
    assert (found.n, found.classes) == (3, 7)
    assert found.nll == pytest.approx(float(expected), abs=1e-6)
    assert scores.mean() == pytest.approx(float(expected), abs=1e-6)
    top = logits.topk(5).indices
    assert found.top1.value == pytest.approx(float((top[:, 0] == labels)[kept].double().mean()))
    assert found.top5.value == pytest.approx(
        float((top == labels[:, None]).any(1)[kept].double().mean())
    )
    assert scores.accuracy() == found.top1.value
    distortion = scores.distortion()
    assert distortion.n == 3
    assert distortion.sampled == pytest.approx(distortion.mean, abs=1e-6)  # logits shifted by one
    each = torch.nn.functional.cross_entropy(logits[kept], labels[kept], reduction="none")
    assert distortion.mean_error == pytest.approx(float(each.std()) / 3**0.5, rel=1e-5)
    assert distortion.sampled_error == pytest.approx(distortion.mean_error, rel=1e-5)


def test_without_any_label_there_is_no_score():
    scores, _ = scores_of(torch.full((5,), -1))
    assert scores.classification() is None
    assert scores.distortion() is None
    assert (scores.accuracy(), scores.mean()) == (0, 0)


def test_top5_needs_more_than_five_classes():
    scores, _ = scores_of(torch.tensor([0, 1, 2]), classes=5)
    assert scores.classification().top5 is None
