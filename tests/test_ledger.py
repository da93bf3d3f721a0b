"""The ledger of claims: what its files may say, and what numbers make of them."""

import json
import math
import shutil
from itertools import chain
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.resources import resource_dir
from paradise_cli.reproduction.ledger import bench as ledger_bench
from paradise_cli.reproduction.ledger.bench import Bench
from paradise_cli.reproduction.ledger.claims import (
    SCALES,
    Check,
    Claim,
    Ledger,
    Number,
    Result,
    Training,
    open_ledger,
    threshold,
)
from paradise_cli.reproduction.ledger.page import pages, write_pages
from paradise_cli.reproduction.ledger.plan import plan, recipe_of
from paradise_cli.reproduction.ledger.results import keep
from paradise_cli.reproduction.ledger.run import ledger_in
from paradise_cli.reproduction.ledger.verdicts import agree, difference, over_seeds, verdict
from paradise_cli.reproduction.quantities import QUANTITIES, Measured

# What a faithful implementation must reproduce, by the paper's parts: experiments with its tables
# and figures, baselines, claims and named extensions.
PARTS = {"C": 23, "E": 16, "B": 9, "X": 10}
TABLES = {1: "E5", 2: "E6", 3: "E7", 4: "E8", 5: "E10", 6: "E11"}


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return open_ledger(resource_dir("claims"))


def test_every_part_of_the_paper_has_a_file(ledger: Ledger) -> None:
    parts = chain.from_iterable(
        (f"{letter}{number}" for number in range(1, last + 1)) for letter, last in PARTS.items()
    )
    assert set(ledger.claims) == set(parts)
    for claim in ledger.claims.values():
        assert claim.check is None or claim.control is not None or claim.no_control
    for number, name in TABLES.items():
        assert ledger.claims[name].table == number and ledger.claims[name].cells
    assert {claim.figure for claim in ledger.claims.values()} >= set(range(1, 8))


@pytest.mark.parametrize("scale", SCALES)
def test_every_network_can_be_trained(ledger: Ledger, scale: str) -> None:
    for trainings in ledger.networks.networks.values():
        if scale in trainings:
            recipe_of(ledger, trainings[scale], 0)  # type: ignore[index]


@pytest.mark.parametrize("scale", SCALES)
def test_the_committed_pages_are_those_of_the_ledger(ledger: Ledger, scale: str) -> None:
    if not any(claim.newest(scale) for claim in ledger.claims.values()):  # type: ignore[arg-type]
        return
    for name, text in pages(ledger, scale).items():  # type: ignore[arg-type]
        assert (ledger.folder / name).read_text() == text


def test_every_claim_with_a_check_can_be_run_at_some_scale(ledger: Ledger) -> None:
    claims = [*ledger.claims.values()]
    run = {each.claim for scale in SCALES for each in plan(ledger, claims, scale).claims}
    assert {each.claim for each in claims if each.check is not None} == run


def test_stored_verdicts_are_those_of_their_numbers(ledger: Ledger) -> None:
    results = [(claim.check, each) for claim in ledger.claims.values() for each in claim.results]
    assert len(results) > 90
    for check, each in results:
        assert check is not None
        decided = verdict(check, each.found, each.control, each.second)
        assert decided == (each.verdict, each.note), each.command


@pytest.mark.parametrize(
    ("name", "part", "quantity"),
    [
        ("B1", "the control's number", "robust_accuracy"),
        ("C4", "E2", "overlap"),
        ("C7", "E3", "serial_change"),
        ("C14", "the control's number", "passes_ratio"),
        ("C18", "E12", "wavering"),
    ],
)
def test_a_sentence_says_where_its_other_half_is_checked(
    ledger: Ledger, name: str, part: str, quantity: str
) -> None:
    claim = ledger.claims[name]
    assert part in claim.says
    if part == "the control's number":
        assert claim.control is not None and claim.check is not None
        assert (claim.control.quantity or claim.check.quantity).name == quantity
        return
    # Of the same networks, less the same.
    here, there = claim.check, ledger.claims[part].check
    assert here is not None and there is not None and there.quantity.name == quantity
    assert (there.of, there.minus) == (here.of, here.minus)


@pytest.mark.parametrize(("name", "gamma"), [("B3", 0), ("X5", 1), ("X6", 1)])
def test_controls_are_the_networks_of_their_sentence(
    ledger: Ledger, name: str, gamma: float
) -> None:
    """Two views as of the network that is checked, but other ones or no matching to speak of."""
    check, control = ledger.claims[name].check, ledger.claims[name].control
    assert check is not None and control is not None and control.of is not None
    of, beside = (
        recipe_of(ledger, ledger.networks.networks[names[0]]["smoke"], 0)
        for names in (check.of, control.of)
    )
    assert [each.name for each in beside.views] == ["corner"] * len(of.views)
    assert of.objective.matching is not None and beside.objective.matching is not None
    found = beside.objective.matching.gamma / of.objective.matching.gamma
    assert found == pytest.approx(gamma, abs=1e-6)
    # Nothing else differs.
    same = {"views": of.views, "objective": of.objective, "name": of.name}
    assert beside.model_copy(update=same) == of


def test_rates_that_do_not_add_up_refute(ledger: Ledger) -> None:
    """A second way that is a constant would make void whatever differs from it."""
    check, second = ledger.claims["X4"].check, ledger.claims["X4"].second
    assert check is not None
    found = over_seeds([QUANTITIES[check.quantity.name](independent=False)(())])
    again = None
    if second is not None:
        again = over_seeds([QUANTITIES[second.quantity.name](**second.quantity.hyper)(())])
    assert verdict(check, found, None, again) == ("refuted", "")


def test_a_control_can_pass(ledger: Ledger) -> None:
    """A curve has less left to fall than it was below when that is looked for."""
    for claim in ledger.claims.values():
        control = claim.control
        if control is None or control.quantity is None or control.quantity.name != "late_fall":
            continue
        hyper = control.quantity.hyper
        assert claim.check is not None
        same = hyper["term"] == hyper["when"]
        assert not same or hyper["below"] > threshold(claim.check.supported)[1]


CHECK = Check.model_validate_json(
    '{"quantity": {"name": "accuracy"}, "of": ["a"], "supported": "> 0.5", "refuted": "< 0"}'
)
LESS = CHECK.model_copy(update={"supported": "< -0.5", "refuted": "> 0"})


def number(value: float, half: float = 0.1) -> Number:
    return Number(value=value, interval=(value - half, value + half), n=100)


@pytest.mark.parametrize(
    ("check", "found", "control", "second", "expected"),
    [
        (CHECK, number(0.7), number(0.2), None, "reproduced"),
        (CHECK, number(0.55), number(0.2), None, "undecided"),
        (CHECK, number(0.6), number(0.2), None, "undecided"),  # its end lies on the bound
        (CHECK, number(0.3), number(0.2), None, "differs"),
        (CHECK, number(-0.2), number(0.2), None, "refuted"),
        (CHECK, number(-0.05), number(0.2), None, "undecided"),  # it may be refuted
        (CHECK, number(0.7), number(0.7), None, "void"),
        (CHECK, number(0.7), number(0.55), None, "undecided"),  # the control may pass
        (CHECK, number(0.7), number(0.45), None, "reproduced"),
        (CHECK, number(0.7), None, number(0.8), "reproduced"),
        (CHECK, number(0.7), None, number(0.9), "void"),
        (LESS, number(-0.7), number(-0.2), None, "reproduced"),
        (LESS, number(-0.3), number(0.0), None, "differs"),
        (LESS, number(0.2), number(0.0), None, "refuted"),
        (LESS, number(-0.55), number(0.0), None, "undecided"),
    ],
)
def test_verdicts(
    check: Check, found: Number, control: Number | None, second: Number | None, expected: str
) -> None:
    assert verdict(check, found, control, second)[0] == expected


def test_what_would_decide_is_told() -> None:
    # An interval of 0.1 either side at 0.05 from the bound is halved by four times the data.
    assert "about 4 times" in verdict(CHECK, number(0.55), None, None)[1]
    # Up to the bound it is 0.3, and down 0.1: where it is looked for counts.
    skewed = Number(value=0.35, interval=(0.25, 0.65), n=100)
    assert "bound > 0.5: about 4 times" in verdict(CHECK, skewed, None, None)[1]
    # Twice the data still hold it, on the bound itself nothing less decides.
    assert "bound < 0: about 2 times" in verdict(CHECK, number(0.1), None, None)[1]
    for value in (0.5, 0.5 + 1e-9):
        assert "lies on the bound" in verdict(CHECK, number(value), None, None)[1]


def test_intervals_over_seeds_are_students() -> None:
    found = over_seeds([Measured(value, value, value, 360) for value in (1.0, 2.0, 3.0)])
    # t(0.975, 2 degrees of freedom) = 4.302653, deviation 1.
    assert found.value == 2.0 and found.n == 360
    assert found.interval[1] - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert 2 - found.interval[0] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    alone = over_seeds([Measured(0.5, 0.4, 0.7, 10)])
    assert alone.interval == (0.4, 0.7) and alone.n == 10
    # Seeds that agree by chance leave what the images leave.
    same = over_seeds([Measured(0.5, 0.4, 0.7, 10)] * 3)
    assert same.interval == pytest.approx((0.4, 0.7))


def test_errors_of_a_difference_add_in_squares() -> None:
    found = difference(Measured(1.0, 0.7, 1.3, 50), Measured(0.2, -0.2, 0.6, 40))
    assert found.value == pytest.approx(0.8) and found.n == 40
    assert found.high - found.value == pytest.approx(0.5)
    assert found.value - found.low == pytest.approx(0.5)
    assert agree(number(0.0, 0.3), number(0.49, 0.4)) and not agree(
        number(0.0, 0.3), number(0.51, 0.4)
    )


GOOD = """\
claim: C1
kind: claim
place: here
says: Something.
check:
  quantity: largest_rise
  supported: "< 1e-9"
  refuted: "> 1e-3"
control:
  why: It must fail.
  quantity: {name: largest_rise, stretch: 15.0}
"""
NETWORKS = """\
radius: {smoke: 0.1, small: 0.1, paper: 0.1}
attacked: {smoke: 10, small: 10, paper: 10}
networks: {}
"""


def folder_of(place: Path, text: str = GOOD) -> Path:
    place.mkdir()
    (place / "networks.yaml").write_text(NETWORKS)
    (place / "C1.yaml").write_text(text)
    return place


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('  supported: "< 1e-9"\n', "", "C1.yaml:5:1: check.supported: required, but missing"),
        ('"< 1e-9"', '"at most 3"', r"C1.yaml:7:3: check.supported: should be as '> 0.5'"),
        ('"> 1e-3"', '"< 1e-3"', "overlap or leave no room"),
        ('"> 1e-3"', '"> -1"', "overlap or leave no room"),
        ("largest_rise\n", "largest_raise\n", "did you mean 'largest_rise'"),
        ("stretch: 15.0", "strech: 15.0", "did you mean 'stretch'"),
        (GOOD[GOOD.index("control") :], "", "a check has a control, or says by `no_control` why"),
        (GOOD[GOOD.index("check") :], "", "has a check, or says by `unchecked` why there is none"),
        ("claim: C1", "results: []\nclaim: C1", "'results' has to be its last key"),
        (
            "stretch: 15.0",
            "steps: 0",
            "control.quantity.steps: should be at least 1",
        ),
        ("largest_rise\n", "{name: nuisance_shift, sampler: foo}\n", "no nuisance 'foo'"),
        ("claim: C1", "claim: C2", "holds the claim C2: call the file by that"),
        ("  supported", "  of: [nobody]\n  supported", "no network 'nobody' in networks.yaml"),
    ],
)
def test_a_bad_claim_is_told_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ParadiseError) as told:
        open_ledger(folder_of(tmp_path / "claims", GOOD.replace(old, new)))
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{smoke: 0.1,", "{smoke: 0,", "radius.smoke: should be greater than 0"),
        ("networks: {}", "networks: {a: {smoke: {recipe: digits, using: [b]}}}", "no settings 'b'"),
        (
            "{smoke: 10, small: 10, paper: 10}\nnetworks: {}",
            "{small: 10}\nnetworks: {a: {smoke: {recipe: digits}}}",
            "networks.a: radius and attacked say nothing of smoke",
        ),
    ],
)
def test_bad_networks_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = folder_of(tmp_path / "claims")
    assert old in NETWORKS
    (folder / "networks.yaml").write_text(NETWORKS.replace(old, new))
    with pytest.raises(ParadiseError) as told:
        open_ledger(folder)
    assert message in str(told.value)


def test_a_wrong_recipe_is_told_with_its_file(tmp_path: Path) -> None:
    training = Training(recipe="digits", set=["foo.bar=1"])
    with pytest.raises(ParadiseError, match=r"claims/networks.yaml: digits: --set foo.bar=1: "):
        recipe_of(open_ledger(folder_of(tmp_path / "claims")), training, 0)


def test_what_is_asked_for(ledger: Ledger) -> None:
    def names(*words: str) -> list[str]:
        return [each.claim for each in ledger.chosen([*words])]

    assert names("c4", "C2") == ["C2", "C4"]  # in the ledger's order
    assert "E7" in names("table3") and "C11" in names("Table3") and "E5" not in names("table3")
    assert set(names("figure4")) == {"C16", "C17", "E9"}
    assert names("all") == [*ledger.claims]
    with pytest.raises(UsageError, match="did you mean 'table3'"):
        names("tabel3")


def result(value: float, scale: str = "smoke") -> Result:
    return Result(
        scale=scale,  # type: ignore[arg-type]
        verdict="reproduced",
        found=number(value),
        seeds=[0],
        commit="a" * 40,
        machine="cpu",
        command="paradise reproduce C1",
    )


def test_results_are_added_and_never_lost(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "claims", "# by hand\n" + GOOD)
    path = folder / "C1.yaml"

    def now() -> Claim:
        return open_ledger(folder).claims["C1"]

    assert keep(path, now(), result(0.1)) and keep(path, now(), result(0.2, "small"))
    assert keep(path, now(), result(0.3))
    assert not keep(path, now(), result(0.3))  # the newest of its scale
    assert keep(path, now(), result(0.1))
    found = now()
    assert [each.found.value for each in found.results] == [0.1, 0.2, 0.3, 0.1]
    newest = {scale: found.newest(scale) for scale in SCALES}
    assert newest["smoke"] == result(0.1) and newest["small"] == result(0.2, "small")
    assert newest["paper"] is None
    assert path.read_text().startswith("# by hand\n" + GOOD)


def test_what_was_written_below_the_results_since_is_not_lost(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "claims", GOOD + "\nresults: []\n")
    claim = open_ledger(folder).claims["C1"]
    (folder / "C1.yaml").write_text(GOOD + "\nresults: []\npaper: more\n")
    with pytest.raises(ParadiseError, match="'results' has to be its last key"):
        keep(folder / "C1.yaml", claim, result(0.1))
    assert "paper: more" in (folder / "C1.yaml").read_text()


def test_a_scale_that_the_networks_do_not_name_is_not_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "claims")
    text = "radius: {smoke: 0.1}\nattacked: {smoke: 10}\nnetworks: {}\n"
    (folder / "networks.yaml").write_text(text)
    found = open_ledger(folder)
    assert "no radius" in plan(found, [*found.claims.values()], "small").missing["C1"]


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "claims", GOOD.replace("Something.", '"a | b <script>"'))
    keep(folder / "C1.yaml", open_ledger(folder).claims["C1"], result(0.25))
    written = write_pages(open_ledger(folder), "smoke")
    assert written == [folder / "smoke.md", folder / "smoke.html"]
    text, page = (each.read_text() for each in written)
    assert "<script>" not in page and "a | b &lt;script&gt;" in page
    assert r"a \| b <script>" in text and "0.2500 (0.1500 to 0.3500)" in text
    assert "1 seed, n = 100, aaaaaaa" in text and "| reproduced | 1 | C1 |" in text


def test_claims_without_networks_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    done = run.invoke(app, ["reproduce", "C1", "X4", "--json"])
    assert done.exit_code == 0, done.output
    found = {each["claim"]: each["result"] for each in json.loads(done.stdout)}
    assert {each["verdict"] for each in found.values()} == {"reproduced"}
    # Two coins, p = 0.3 and its copy at alpha = 0.5: 2 R(D_2) - R(D_4), by Hamming's closed form.
    assert found["X4"]["control"]["value"] == pytest.approx(0.0297086, abs=1e-6)
    before = {path: path.read_bytes() for path in sorted(Path("reproduction/claims").iterdir())}
    # As a process leaves it that is killed behind its last number, found by another process.
    left = Path("reproduction/measured/.0.json.0123abcd.tmp")
    left.mkdir()
    monkeypatch.setattr("paradise_cli.core.temporary._swept", set())
    assert run.invoke(app, ["reproduce", "C1", "X4"]).exit_code == 0
    assert not left.exists()
    assert {path: path.read_bytes() for path in before} == before
    shipped = resource_dir("claims") / "C1.yaml"
    assert before[Path("reproduction/claims/C1.yaml")].startswith(shipped.read_bytes().rstrip())
    listed = run.invoke(app, ["reproduce", "--list", "--json"])
    states = {each["claim"]: each["status"] for each in json.loads(listed.stdout)}
    assert states["C1"] == "reproduced" and states["C17"] == "not run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reproduce"], "name claims such as C4, table1 or all"),
        (["reproduce", "C99"], "C99: no claim, table or figure of that name"),
        (["reproduce", "C4", "--scale", "smoky"], "no such scale; did you mean 'smoke'"),
        (["reproduce", "C4", "--claims", "nowhere"], "nowhere holds no claims"),
    ],
)
def test_what_cannot_be_reproduced_is_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (1, 2) and message in done.stderr
    assert done.stderr.count("error: ") == 1


def test_without_its_control_a_claim_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be measured has not failed the check."""
    monkeypatch.chdir(tmp_path)
    wrong = "{name: fall, term: nothing}\n  of: []"
    folder_of(tmp_path / "claims", GOOD.replace("{name: largest_rise, stretch: 15.0}", wrong))
    done = CliRunner().invoke(app, ["reproduce", "C1", "--claims", "claims"])
    assert done.exit_code == 1 and "not run" in done.stdout and "of one network" in done.stdout
    assert open_ledger(Path("claims")).claims["C1"].results == []


def test_the_copy_of_the_claims_is_whole_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, to: Path) -> None:
        to.mkdir()
        (to / "C1.yaml").write_text(GOOD)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger_in(tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(open_ledger(ledger_in(tmp_path)).claims) == sum(PARTS.values())
    (tmp_path / "file").write_text("")
    with pytest.raises(ParadiseError, match=r"cannot write .*choose another --out"):
        ledger_in(tmp_path / "file")


def test_what_other_code_measured_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    check = open_ledger(folder_of(tmp_path / "claims")).claims["C1"].check
    assert check is not None
    measured = []
    for code in ("a", "a", "b"):
        monkeypatch.setattr(ledger_bench, "_code", lambda code=code: code)
        bench = Bench(tmp_path, tmp_path / "measured", {}, {})
        bench.number(check.quantity, (), (), 1)
        measured.append(len(list((tmp_path / "measured").iterdir())))
    assert measured == [1, 1, 2]


def test_data_that_are_not_at_hand_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARADISE_DATA", str(tmp_path / "data"))
    shutil.copytree(resource_dir("claims"), "claims")
    done = CliRunner().invoke(app, ["reproduce", "E5", "--scale", "small", "--claims", "claims"])
    assert done.exit_code == 1 and "cifar10-jpeg75" in done.stdout.replace("\n", "")
    assert open_ledger(Path("claims")).claims["E5"].newest("small") is None
