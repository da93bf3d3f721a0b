"""The audit on classifiers whose robustness, or lack of it, is known; verdicts from every set of
rows.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import attack
from paradise_cli.attacks.audit import calibration, declare
from paradise_cli.attacks.audit.audit import VERDICTS, Audit, AuditRow, Verdict, audit, judged
from paradise_cli.attacks.audit.context import SQUARE_IMAGES, Case, Siblings
from paradise_cli.attacks.audit.declare import Finding
from paradise_cli.attacks.audit.evidence import ERROR, Gap, Result, resolves
from paradise_cli.attacks.audit.rows import ALL_ROWS
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.surrogate import HeldNoise, Scaled, Smoothed
from paradise_cli.attacks.session import session as session_module
from paradise_cli.attacks.session.ledger import Entry, Ledger
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.threat import Linf
from tests.attack_cases import Linear, balanced, eps_that_fells_half

N = 150


def centred(classes: int = 2, seed: int = 0) -> Linear:
    """A linear classifier to which grey images tell nothing: all classes are about as common."""
    linear = Linear(classes, seed)
    linear.weight -= linear.weight.mean(1, keepdim=True)
    linear.bias.zero_()
    return linear


LINEAR = centred()
IMAGES, LABELS = LINEAR.problem(N, seed=0)
RADIUS = LINEAR.radius(IMAGES, LABELS, "linf")
EPS = eps_that_fells_half(RADIUS, Linf).eps


def subject_of(function: Callable[[Tensor], Tensor], n: int = N, norm: str = "linf") -> Subject:
    compute = Compute(torch.device("cpu"), width=n)
    return Subject.examine(function, IMAGES[:n], LABELS[:n], norm, compute)


def session_of(function: Callable[[Tensor], Tensor], n: int = N, norm: str = "linf") -> Session:
    return Session(subject_of(function, n, norm))


def case_of(function: Callable[[Tensor], Tensor], eps: float = EPS, n: int = N) -> Case:
    return Case(session_of(function, n), eps, tuple(range(n)), {}, {}, queries=100, draws=100)


def examined(number: int, case: Case) -> Finding:
    """What the row of this number finds."""
    (found,) = (row for row in ALL_ROWS if row.number == number)
    return found.examine(case)


def result(function: Callable[[Tensor], Tensor], row: int) -> Result:
    return examined(row, case_of(function))[0]


class CountingLedger(Ledger):
    added = 0

    def add(self, entry: Entry) -> None:
        super().add(entry)
        self.added += 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_classifier_passes_every_row_and_its_curve_is_exact(norm: str) -> None:
    radius = LINEAR.radius(IMAGES, LABELS, norm)
    eps = eps_that_fells_half(radius, Linf).eps
    ledger = CountingLedger()
    session = Session(subject_of(LINEAR, norm=norm), ledger)
    found = audit(session, eps, white={}, black={}, rows=range(N), images=N, queries=50, draws=50)
    assert found.verdict == "not detected"
    inapplicable = {11, 12, 13, 14, 16}
    for row in found.rows:
        assert row.result == ("not applicable" if row.number in inapplicable else "pass"), row
    assert [row.number for row in found.rows] == [*range(1, 17)]
    for level, share, n in found.curve:
        # Two classes: sign gradients are optimal, and no pixel is clipped before 0.3.
        assert n == N
        if level < 0.3:
            assert share == pytest.approx(float((radius > level).double().mean()))
    assert found.curve[0][:2] == (0.0, 1.0) and found.curve[-1][1] == 0.0
    before = ledger.added
    assert (
        audit(session, eps, white={}, black={}, rows=range(N), images=N, queries=50, draws=50)
        == found
    )
    assert ledger.added == before > 0


def no_gradient(images: Tensor) -> Tensor:
    return LINEAR(images.detach())


def quantised(images: Tensor) -> Tensor:
    return LINEAR((images * 255).round() / 255)


def saturated(images: Tensor) -> Tensor:
    return 1e4 * LINEAR(images)


@pytest.mark.parametrize(
    ("function", "failing", "passing"),
    [
        # Gradients that are 0 lead nowhere from the image itself, whatever the scale or the loss.
        (no_gradient, {3, 8}, {1}),
        (quantised, {3, 8, 10}, {1}),
        # Cross-entropy is 0 to the last bit; its margin, and a thousandth of it, are those of the
        # linear one.
        (saturated, {3, 7, 8}, {1, 2, 5, 6}),
    ],
)
def test_what_hides_gradients_fails_the_rows_that_should_see_it(
    function: Callable[[Tensor], Tensor], failing: set[int], passing: set[int]
) -> None:
    case = case_of(function)
    results = {row: examined(row, case)[0] for row in failing | passing}
    assert {row for row, found in results.items() if found == "fail"} == failing
    assert all(results[row] == "pass" for row in passing)


def test_what_falls_to_a_black_box_alone_counts_against_it() -> None:
    points = {row: Entry("square", row, 0, -1, 1, EPS, True, IMAGES[row]) for row in range(N)}
    case = case_of(LINEAR)
    standing = {row: points[row] for row in case.standing}
    assert len(standing) == int((RADIUS > EPS).sum())
    for black, expected in (({}, "pass"), (standing, "fail")):
        judged_case = Case(case.session, EPS, case.rows, {}, black, queries=100, draws=100)
        assert examined(2, judged_case)[0] == expected
        # What the suite's own gradients felled is no evidence for a black box.
        assert (
            examined(2, Case(case.session, EPS, case.rows, black, black, queries=100, draws=100))[0]
            == "pass"
        )


def test_random_points_that_fool_where_gradients_do_not_are_seen() -> None:
    def speckled(images: Tensor) -> Tensor:
        # Wrong on about a hundredth of all points, which no gradient tells of.
        odd = (images.detach().sum((1, 2, 3)) * 1e3).remainder(1.0) < 0.01
        linear = LINEAR(images)
        return torch.where(odd[:, None], -linear, linear)

    case = case_of(speckled, eps=float(RADIUS.min()) / 4)
    found, _, n = examined(5, case)
    assert (found, n) == ("fail", N)


def test_gradients_that_lead_on_from_where_square_ended_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = RADIUS.sort().indices[90:140]
    images, labels, eps = IMAGES[rows], LABELS[rows], 1.05 * float(RADIUS[rows].max())
    close = 0.2 * float((LINEAR(images)[:, 0] - LINEAR(images)[:, 1]).abs().min())

    def near(points: Tensor) -> Tensor:
        logits = LINEAR(points)
        return (logits[:, 0] - logits[:, 1]).abs() < close

    def plateau(points: Tensor) -> Tensor:
        # Gradients are true within reach of the boundary, and 0 at the images and all around them:
        # there the answer has left PyTorch, where no smoothing reaches it.
        cut_off = torch.from_numpy(points.detach().numpy())
        return torch.where(near(points)[:, None], LINEAR(points), LINEAR(cut_off))

    def row_10(before: dict[str, Any] | None = None) -> tuple[Case, tuple[Result, str, int]]:
        compute = Compute(torch.device("cpu"), 50)
        session = Session(Subject.examine(plateau, images, labels, "linf", compute))
        if before is not None:
            session.attack("square", eps, range(50), hyper=before)
        case = Case(session, eps, tuple(range(50)), {}, {}, queries=45)
        return case, examined(10, case)

    case, found = row_10()
    ends = case.square_ends
    # Every image has a wrong point in its ball, and from within reach sign gradients lead to it.
    reach = near(torch.stack(list(ends.values()))).sum()
    assert 10 <= reach < len(ends) and set(ends) == case.standing - case.square
    assert found[0] == "fail" and found[1].endswith(f"gradients from where Square ended {reach}")
    assert "smooth gradients broke 0 more" in found[1]
    # What others left on record without the points where it ended makes no difference.
    assert row_10(before={"queries": 45, "rescale": True})[1] == found
    monkeypatch.setattr(case.session.ledger, "add", None)
    assert examined(10, Case(case.session, eps, case.rows, {}, {}, queries=45)) == found


class Scripted(Case):
    """A case in which each attack breaks as many of the first images as a script says."""

    script: Callable[[dict[str, Any]], int]

    def broken_by(self, name: str, **given: Any) -> frozenset[int]:
        return frozenset(range(self.script({"name": name, **given})))

    @property
    def pgd(self) -> dict[int, Entry]:
        count = self.script({"name": "pgd", "steps": 100})
        return {row: Entry("pgd", row, 0, -1, 1, EPS, True, IMAGES[row]) for row in range(count)}


@pytest.mark.parametrize(
    ("row", "script", "expected"),
    [
        (1, lambda given: 60 if given["name"] == "fgsm" else 50, "fail"),
        (1, lambda given: 50, "pass"),
        (1, lambda given: 50 if given["name"] == "fgsm" else 60, "pass"),
        (4, lambda given: round(1000 * given.get("eps", EPS)), "pass"),
        (4, lambda given: 0 if given.get("eps", EPS) == 2 * EPS else 150, "fail"),  # it rises once
        (4, lambda given: 30, "fail"),  # flat
        (6, lambda given: 0, "pass"),
        (6, lambda given: 10 if given["steps"] == 200 else 0, "fail"),
        (6, lambda given: 10 if given.get("restarts") == 2 else 0, "fail"),
        (7, lambda given: 50 if given.get("loss") == "dlr" else 30, "fail"),
        (7, lambda given: 53 if given.get("loss") == "dlr" else 50, "pass"),
        (9, lambda given: 50 if given.get("step_size") == 2 * EPS else 30, "fail"),
        (9, lambda given: 50 if given.get("step_size") == 1 / 20 * EPS else 30, "fail"),
        (9, lambda given: 50 if given.get("step_size") == EPS / 2 else 30, "pass"),
    ],
)
def test_rows_that_compare_attacks(
    row: int, script: Callable[[dict[str, Any]], int], expected: str
) -> None:
    case = Scripted(session_of(LINEAR), EPS, tuple(range(N)), {}, {})
    object.__setattr__(case, "script", script)
    assert examined(row, case)[0] == expected


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16])
def test_the_comparisons_of_a_row_share_its_error(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of row 4 can never be above its limit: at eps 0 nothing is broken."""
    taken: list[float] = []

    def result(gap: Gap) -> Result:
        taken.append(1 / gap.shares)
        return "pass"

    monkeypatch.setattr(Gap, "result", property(result))
    examined(number, case_of(LINEAR, n=20))
    assert sum(taken) - (min(taken) if number == 4 else 0) == pytest.approx(1)


def test_shares_leave_row_10_enough_to_pass_on_the_images_of_square() -> None:
    assert resolves(SQUARE_IMAGES, 0.01, nested=True, error=4 / 5 * ERROR)
    assert not resolves(SQUARE_IMAGES, 0.01, nested=True, error=ERROR / 2)


@pytest.mark.parametrize(("followed", "expected"), [(0, "fail"), (5, "fail"), (10, "pass")])
def test_what_more_gradients_break_as_well_does_not_break_to_a_black_box_alone(
    followed: int, expected: str
) -> None:
    black = {row: Entry("square", row, 0, -1, 1, EPS, True, IMAGES[row]) for row in range(10)}
    case = Scripted(session_of(LINEAR), EPS, tuple(range(N)), {}, black)
    script = {"multi_targeted": followed}
    object.__setattr__(case, "script", lambda given: script.get(given["name"], 0))
    found, text, n = examined(2, case)
    assert (found, n) == (expected, N)
    only = f"{10 - followed} of 150 images broke only to the black-box attacks of the suite"
    also = f"; {followed} also to Multi-Targeted with 5 restarts" if followed else ""
    assert text == only + also


def test_noise_that_hides_gradients_from_a_single_draw_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(session_module, "EOT_DRAWS", 8)

    def masked(images: Tensor) -> Tensor:
        # A draw sees a fifth of the pixels: of 8 draws one sees 83% of them.
        keep = (torch.rand_like(images) < 0.2).float() / 0.2
        return LINEAR(0.5 + (images - 0.5) * keep)

    assert examined(11, case_of(masked, eps=2 * EPS, n=50))[0] == "fail"
    assert result(LINEAR, 11) == "not applicable"


class Encoder:
    """mu is what the linear classifier says, and the classes are read off it through `decode`."""

    def __init__(self, decode: Callable[[Tensor], Tensor]) -> None:
        self.decode = decode

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        mu = LINEAR(images)
        return DiagonalGaussian(mu, 0.1 * torch.ones_like(mu))

    def classify(self, z: Tensor) -> Tensor:
        return self.decode(z)

    def __call__(self, images: Tensor) -> Tensor:
        return self.classify(self.posterior(images).mu)


def test_logits_that_deflect_attacks_do_not_hide_the_latent() -> None:
    assert result(Encoder(lambda z: z), 12) == "pass"
    assert result(Encoder(lambda z: (z * 100).round() / 100), 12) == "fail"
    assert result(LINEAR, 12) == "not applicable"


def test_what_is_measured_says_what_chance_is_and_eps_as_images_have_it() -> None:
    images, _ = LINEAR.problem(40, seed=1)
    labels = torch.arange(40) % 2
    labels[:10] = 1  # 25 of 40
    session = Session(
        Subject.examine(LINEAR, images, labels, "linf", Compute(torch.device("cpu"), 40))
    )
    case = Case(session, EPS, tuple(range(40)), {}, {})
    measured = examined(3, case)[1]
    assert measured.endswith("; chance, the share of the most frequent class, is 62.5%")
    assert " at 64/255, " in measured and " at 127.5/255;" in measured
    assert " at 0, " in examined(4, case)[1] and " at 127.5/255;" in examined(4, case)[1]


def test_siblings_show_whether_the_attacks_work() -> None:
    images, labels = LINEAR.problem(400, seed=1)  # enough to tell half from 10 points more
    labels[:5] = 1 - labels[:5]  # misclassified as they are
    case = case_of(LINEAR)
    compute = Compute(torch.device("cpu"), 400)
    subject = Subject.examine(LINEAR, images, labels, "linf", compute)
    session = Session(subject)
    broken = ~subject.correct | (LINEAR.radius(images, labels, "linf") <= EPS)
    exact = {*broken.nonzero().flatten().tolist()}

    def row(number: int, siblings: Siblings, eps: float = EPS) -> Result:
        return examined(number, Case(case.session, eps, case.rows, {}, {}, siblings))[0]

    assert (
        row(13, Siblings(base=session)) == "inconclusive"
    )  # half of it stands at this eps, nothing at 0.5
    assert row(13, Siblings(base=session), eps=0.4) == "pass"
    still = Subject.examine(lambda x: LINEAR(x.detach()), images, labels, "linf", compute)
    unmoved = Session(still)
    assert row(13, Siblings(base=unmoved), eps=0.4) == "fail"
    others = {*range(400)} - exact
    for known, expected in (
        (exact, "pass"),
        (exact - {min(exact)}, "pass"),
        (exact | {*sorted(others)[:20]}, "fail"),  # known to fall, and these attacks miss them
        (exact - {*sorted(exact)[:20]}, "fail"),  # felled, and known to stand
        (others, "inconclusive"),  # as many fall, but not those
    ):
        assert (
            row(14, Siblings(reference=session, known=frozenset(known), reference_eps=EPS))
            == expected
        )


def test_the_shipped_reference_agrees_with_autoattack_but_for_one_image_in_a_hundred() -> None:
    session, known = calibration.reference(Compute(torch.device("cpu"), 8), 110)
    wrong = {*(~session.subject.correct).nonzero().flatten().tolist()}
    assert len(session.subject.images) == 110 and wrong < known < {*range(110)}
    siblings = Siblings(reference=session, known=known, reference_eps=calibration.EPS)
    found, measured, n = examined(14, Case(session_of(LINEAR), EPS, (), {}, {}, siblings))
    assert (found, n) == ("pass", 110), measured
    assert measured.startswith("on a network of known robustness and 110 images of its own ")
    session, known = calibration.reference(Compute(torch.device("cpu"), 8), 1000)
    assert len(session.subject.images) == calibration.IMAGES == 200
    assert len(known) == 68 and session.subject.correct_rows()[0] == 0


def test_progress_and_what_time_cut_short_name_the_test_that_they_serve() -> None:
    told: set[str] = set()
    ledger = Ledger()
    session = Session(subject_of(LINEAR, n=20), ledger, pulse=lambda what, *_: told.add(what))
    sibling = session_of(LINEAR, n=30)
    siblings = Siblings(base=sibling, reference=sibling, reference_eps=EPS)
    found = audit(
        session, EPS, white={}, black={}, rows=range(20), queries=20, draws=20, siblings=siblings
    )
    assert {"audit 1: pgd", "audit 9: pgd", "audit 13: pgd", "audit 14: multi_targeted"} <= told
    assert {what.partition(":")[0] for what in told} <= {
        f"audit {number}" for number in range(1, 17)
    }
    assert not session.unfinished and not any("audit" in label for label in ledger._runs)
    late, sibling = Session(session.subject, ledger, deadline=0.0), Session(sibling.subject)
    siblings = Siblings(base=sibling, reference=sibling, reference_eps=EPS)
    again = audit(
        late, EPS, white={}, black={}, rows=range(20), queries=20, draws=20, siblings=siblings
    )
    # On its record the session finds all it needs: time is up for the siblings alone.
    assert again.rows[:12] == found.rows[:12] and not late.unfinished
    assert sibling.unfinished == ("audit 13: pgd", "audit 14: multi_targeted")
    assert {row.result for row in again.rows[12:14]} == {"inconclusive"}
    assert all(row.measured.endswith("(time was up)") for row in again.rows[12:14])
    assert "rows 13, 14" not in found.evidence[-1] and "13, 14" in again.evidence[-1]


def test_what_time_cuts_short_is_inconclusive() -> None:
    session = Session(subject_of(saturated, n=40), deadline=0.0)
    found = audit(session, EPS, white={}, black={}, rows=range(40), queries=20, draws=20)
    assert found.verdict == "undecided" and found.evidence
    assert {row.result for row in found.rows} == {"inconclusive", "not applicable"}
    assert session.unfinished[0] == "audit 1: fgsm"


def test_a_caller_without_gradients_hides_none() -> None:
    with torch.no_grad():
        assert "; 0.0% of 20 gradients are exactly 0" in examined(8, case_of(LINEAR, n=20))[1]


def test_no_images_at_all_are_no_evidence() -> None:
    found = audit(session_of(LINEAR), EPS, white={}, black={}, rows=range(N), images=0)
    assert found.verdict == "undecided"
    assert {row.result for row in found.rows} == {"inconclusive", "not applicable"}


def audited(results: dict[int, Result]) -> list[AuditRow]:
    """Every row passed, but those with another result."""
    return [
        AuditRow(
            row.number, row.name, results.get(row.number, "pass"), "measured", row.threshold,
            row.means, 100, row.decisive, row.needed,
        )
        for row in ALL_ROWS
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(1, 17))
def test_verdict_of_one_failing_row(number: int) -> None:
    verdict, evidence = judged(audited({number: "fail"}), False, 0.0)
    assert verdict == ("obfuscated" if number in {2, 3, 5, 8, 16} else "suspect")
    assert len(evidence) == 1 and evidence[0].startswith(f"row {number}, ")
    assert judged(audited({}), False, 0.0) == ("not detected", ())
    assert judged(audited({}), True, 0.1)[0] == "suspect"
    assert judged(audited({number: "fail"}), True, 0.1)[0] == verdict
    assert {row.number for row in ALL_ROWS if row.decisive} == {2, 3, 5, 8, 16}


@pytest.mark.parametrize("number", range(1, 17))
def test_while_calibration_or_a_decisive_row_is_open_nothing_is_decided(number: int) -> None:
    verdict, evidence = judged(audited({number: "inconclusive"}), False, 0.0)
    assert verdict == ("undecided" if number in {2, 3, 5, 8, 14, 16} else "not detected")
    assert evidence == (f"inconclusive: row {number}; audit more images, or allow more time",)
    # What was seen to fail counts whatever else is open, and what does not apply is not open.
    both = judged(audited({number: "inconclusive", number % 16 + 1: "fail"}), False, 0.0)[0]
    assert VERDICTS.index(both) >= VERDICTS.index("suspect")
    assert judged(audited({number: "not applicable"}), False, 0.0)[0] == "not detected"


def test_an_audit_says_how_many_of_its_tests_were_decided() -> None:
    def summary(verdict: Verdict, results: dict[int, Result]) -> str:
        return Audit(verdict, (), tuple(audited(results)), ()).summary

    rows = len(ALL_ROWS)
    some: dict[int, Result] = {11: "not applicable", 12: "not applicable", 4: "inconclusive"}
    assert (
        summary("not detected", {})
        == f"gradient masking: none found ({rows} of {rows} tests decided)"
    )
    counts = f"({rows - 3} of {rows - 2} tests decided)"
    assert summary("not detected", some) == f"gradient masking: none found {counts}"
    assert summary("undecided", some) == f"gradient masking: none found {counts}"
    assert summary("suspect", some) == f"gradient masking: suspected {counts}"
    assert summary("obfuscated", some) == f"gradient masking: found {counts}"
    found = Audit("undecided", (), tuple(audited(some)), ()).to_json()
    assert (found["decided"], found["total"]) == (rows - 3, rows - 2)


def test_the_words_of_a_row_are_made_from_its_limits() -> None:
    words = {row.number: row.threshold for row in ALL_ROWS}
    assert words[2] == "at most 0.2% break only to a black box"
    assert words[7] == "losses at most 3 points apart"
    assert words[8] == "no scale more than 2 points lower; at most 0.1% of gradients 0"
    assert [row.number for row in ALL_ROWS] == [*range(1, len(ALL_ROWS) + 1)]
    with pytest.raises(ValueError, match="row 2 is declared twice"):
        declare.row(2, "again", passes="", means="")


def test_other_ways_to_the_gradient_keep_the_answer() -> None:
    class Net(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.relu(images.flatten(1) - 0.5).round(decimals=1)

    x = torch.linspace(0, 1, 12).view(1, 3, 2, 2).requires_grad_(True)
    smooth = Smoothed(Net())(x)
    assert torch.allclose(smooth, Net()(x))
    (gradient,) = torch.autograd.grad(smooth.sum(), [x])
    # The slope of log(1 + exp(10 t)) / 10.
    assert torch.allclose(gradient, torch.sigmoid(10 * (x - 0.5)))
    assert torch.equal(Scaled(LINEAR, 8.0)(IMAGES), 8 * LINEAR(IMAGES))
    held = HeldNoise(torch.rand_like, seed=0)
    state = torch.get_rng_state()
    assert torch.equal(held(x), held(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_where_nothing_is_classified_rightly_the_audit_asks_nothing_of_an_empty_batch() -> None:
    linear = balanced(3, 0)
    images, labels = linear.problem(6, 0)

    def viewed(x: Tensor) -> Tensor:
        # Neither a minimum nor this view exists of an empty batch.
        return linear(x - 0 * x.min()).view(len(x), -1)

    report = attack(viewed, images, (labels + 1) % 3, eps=0.05, suite="quick", audited=4)
    assert (report.clean_accuracy.value, report.robust_accuracy.value) == (0, 0)
    assert report.verdict == "undecided"


def test_a_classifier_that_fails_far_from_its_images_costs_the_rows_that_go_there() -> None:
    """The ball of the audit ends at EPS: rows 3 and 4 go further, and 15 from image to image."""
    n = 20

    def near_alone(pixels: Tensor) -> Tensor:
        nearest = torch.cdist(pixels.flatten(1), IMAGES[:n].flatten(1), p=torch.inf).amin(1)
        if bool((nearest > 1.5 * EPS).any()):
            raise ValueError("too far away")
        return LINEAR(pixels)

    found = audit(
        session_of(near_alone, n), EPS, white={}, black={}, rows=range(n), queries=20, draws=20
    )
    failed = {row.number for row in found.rows if "too far away" in row.measured}
    assert failed == {3, 4, 15} and found.curve == ()
