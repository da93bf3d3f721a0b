"""`paradise attack` as the owner of another classifier meets it."""

import importlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from paradise_cli.attacks import run as library
from paradise_cli.attacks.audit.audit import Audit, AuditRow
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.cli import app
from paradise_cli.cli import attack as command
from paradise_cli.core.storage import load_tensors
from paradise_cli.perturbations.threat import Linf
from tests.attack_cases import balanced, eps_that_fells_half
from tests.tiny_model import save_tiny

N = 12
OWN = """
from torch import nn
from tests.attack_cases import balanced

load = lambda: balanced(3, 0)
two = lambda: balanced(2, 0)
other = lambda: balanced(3, 1)
training = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
softmax = lambda: lambda images: load()(images).softmax(1)
broken = lambda: lambda images: load()(images) * float("nan")
pair = lambda: lambda images: (load()(images), images)
of_the_batch = lambda: lambda images: load()(images) - load()(images).mean(0)
plain = lambda: lambda images: load()(images)
nothing = lambda: None
leaving = lambda: raise_(SystemExit(0))
asked = lambda: lambda images: raise_(SystemExit(0))
constant = 3

def failing():
    raise OSError("no weights here")

def raise_(error):
    raise error

def choosy(path):
    return load()

def printing():
    print("loading")
    return lambda images: print("asked") or load()(images)
"""
LINEAR = balanced(3, 0)
IMAGES, LABELS = LINEAR.problem(N, 0)
EPS = eps_that_fells_half(LINEAR.radius(IMAGES, LABELS, "linf"), Linf).eps


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with own.py, bad.py and some data; no audit but where a test brings it
    back.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in (("own", OWN), ("bad", "import own\n1 / 0\n"), ("worse", "def load(:\n")):
        Path(f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    np.savez("data.npz", images=IMAGES.numpy(), labels=LABELS.numpy())
    monkeypatch.setattr(library, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    return tmp_path


AUDIT = library.audit


def attack(*arguments: object, suite: str = "quick", data: str = "data.npz") -> Result:
    given = ["attack", *arguments, "--suite", suite, "--data", data, "--audited", 4]
    return CliRunner().invoke(app, list(map(str, given)))


def document(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(done: Result, code: int, *messages: str) -> None:
    assert done.exit_code == code, done.output
    assert done.stdout == "" and "Traceback" not in done.output
    assert done.stderr.count("error: ") == 1
    for message in messages:
        assert message in done.stderr, done.stderr


def test_one_json_document_and_its_files_hold_what_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "audit", AUDIT)
    found = document(attack("own:load", "--eps", EPS, "--curve", EPS / 4, "--json", "--out", "out"))
    assert found == json.loads(Path("out/report.json").read_text())
    assert (found["model"], found["data"], found["n"]) == ("own:load", "data.npz", N)
    radius = LINEAR.radius(IMAGES, LABELS, "linf")
    assert found["clean_accuracy"]["value"] == 1
    assert found["robust_accuracy"]["value"] == 0.5
    assert [image["standing"] for image in found["images"]] == (radius > EPS).tolist()
    shares = [point["accuracy"]["value"] for point in found["curve"]]
    assert shares == [float((radius > EPS / 4).double().mean()), 0.5]
    assert found["verdict"] == found["audit"]["verdict"]
    saved, metadata = load_tensors(Path("out/adversarial.safetensors"))
    assert torch.equal(saved["images"], IMAGES) and torch.equal(saved["labels"], LABELS)
    for name, points in (("robust", saved["adversarial"]), ("lattice", saved["lattice"] / 255)):
        right = (LINEAR(points).argmax(1) == LABELS).double().mean()
        assert float(right) == pytest.approx(found[f"{name}_accuracy"]["value"]), name
        assert float((points - IMAGES).abs().max()) <= EPS + 1e-6
        assert 0 <= float(points.min()) and float(points.max()) <= 1
    assert saved["lattice"].dtype == torch.uint8 and metadata["n"] == N


def test_what_a_classifier_prints_is_no_part_of_the_result() -> None:
    done = attack("own:printing", "--eps", EPS, "--json", "--out", "out")
    assert document(done)["clean_accuracy"]["value"] == 1
    assert "loading\n" in done.stderr and "asked\n" in done.stderr


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "audit", AUDIT)
    done = attack("--model", "own:load", "--eps", 0.001, "--n", 4)
    assert done.exit_code == 0, done.output
    for word in (
        "own:load on data.npz: 4 images, linf 0.255/255, suite"
        " quick", "clean", "APGD-CE", "Multi-Targeted",
        "worst case: robust accuracy", "8-bit images", "audit", "verdict: ", "Wilson 95%",
    ):  # fmt: skip
        assert word in done.stdout
    assert "results in attacks/own-load-data-quick-linf-0.001-n4-s0" in done.stderr
    assert Path("attacks/own-load-data-quick-linf-0.001-n4-s0/report.json").is_file()


def rows_of(*results: str) -> tuple[AuditRow, ...]:
    """Tests of an audit with these results."""
    return tuple(
        AuditRow(number, f"test {number}", result, "measured", "limit", "meaning", 4)  # type: ignore[arg-type]
        for number, result in enumerate(results, start=1)
    )


def test_every_number_after_obfuscated_is_called_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = Audit("obfuscated", ("row 2",), rows_of("fail", "pass"), ((EPS, 0.5, N),))
    monkeypatch.setattr(library, "audit", lambda *_, **__: judged)
    given = ["own:load", "--eps", EPS, "--curve", EPS / 4, "--out", "out", "--card"]
    found = document(attack(*given, "--json"))
    assert found["robust_accuracy"]["verdict"] == "obfuscated"
    shares = [
        found["robust_accuracy"], found["lattice_accuracy"],
        *(stage["share"] for stage in found["attacks"]),
        *(point["accuracy"] for point in found["curve"]),
    ]  # fmt: skip
    assert len(shares) == 6 and {share["bound"] for share in shares} == {"upper bound"}
    assert "bound" not in found["clean_accuracy"]
    lines = attack(*given).stdout.splitlines()
    # Two attacks, their worst case, its 8-bit points and two radii; the clean accuracy is exact.
    assert sum("%, upper bound" in line for line in lines) == 6
    assert not any("upper bound" in line for line in lines if "clean" in line)
    for name in ("card.md", "card.html"):
        text = Path("out", name).read_text()
        headline = "50.00%, upper bound: robust accuracy"
        assert text.index(headline) < text.index("Verdict: obfuscated")
        # Beside the six: the headline, and the audit's own accuracy under PGD.
        assert text.count("%, upper bound") + text.count("%), upper bound") == 8
    saved = json.loads(Path("out/card.json").read_text())
    assert saved["robust_accuracy"]["bound"] == "upper bound"
    monkeypatch.setattr(library, "audit", lambda *_, **__: replace(judged, verdict="suspect"))
    assert "upper bound" not in attack(*given).stdout
    assert "%, upper bound" not in Path("out/card.md").read_text()


def test_a_card_is_headed_by_the_name_of_what_was_attacked() -> None:
    given = ["--eps", EPS, "--out", "out", "--card"]
    done = attack("own:load", *given)
    told = [line for line in done.stderr.splitlines() if line.startswith("card")]
    assert told == ["card in out: card.html, card.md, card.json and pictures"]
    assert "<h1>Robustness of Linear on data.npz</h1>" in Path("out/card.html").read_text()
    assert "| model | own:load |" in Path("out/card.md").read_text()
    assert attack("own:plain", *given, "--fresh").exit_code == 0
    assert "<h1>Robustness of own:plain on data.npz</h1>" in Path("out/card.html").read_text()


def test_a_verdict_says_how_many_tests_it_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    results = ("pass", "inconclusive", "inconclusive", "not applicable")
    for verdict in ("not detected", "undecided"):
        judged = Audit(verdict, (), rows_of(*results), ())  # type: ignore[arg-type]
        monkeypatch.setattr(library, "audit", lambda *_, judged=judged, **__: judged)
        found = "gradient masking: none found (1 of 3 tests decided)"
        done = attack("own:load", "--eps", EPS, "--out", "out", "--card")
        assert f"verdict: {verdict}; {found}." in done.stdout
        assert document(attack("own:load", "--eps", EPS, "--out", "out", "--json"))[
            "gradient_masking"
        ] == found  # fmt: skip
        assert f"Verdict: {verdict}; {found}" in Path("out/card.html").read_text()
        assert f"Verdict: {verdict}; {found}" in Path("out/card.md").read_text()


def test_what_is_noticed_first_is_said_before_the_attack_and_once() -> None:
    np.savez("shifted.npz", images=IMAGES.numpy(), labels=(LABELS.numpy() + 1) % 3)
    done = attack("own:load", "--out", "out", data="shifted.npz")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("the labels look shifted: with 2 added to each (modulo 3)") == 1
    assert "the labels look shifted" in json.loads(Path("out/report.json").read_text())["notes"][0]


def test_fresh_begins_again_in_the_same_folder() -> None:
    given = ["own:load", "--eps", EPS, "--out", "out", "--json"]
    document(attack(*given))
    refused(attack(*given, "--seed", 1), 2, "with other seed")
    document(attack(*given, "--seed", 1, "--fresh"))
    refused(attack(*given), 2, "with other seed")


def test_help_teaches_by_example() -> None:
    done = CliRunner().invoke(app, ["attack", "--help"])
    assert done.exit_code == 0
    for word in (
        "paradise attack runs/digits",
        "my_module:load --data images.npz",
        "logits [B, classes]",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("name", "code", "messages"),
    [
        ("nowhere:load", 2, ["cannot import nowhere", "current folder"]),
        ("own.deeper:load", 2, ["cannot import own.deeper"]),
        ("own:laod", 2, ["own has no function laod", "did you mean 'load'?"]),
        ("own:constant", 2, ["own has no function constant"]),
        ("own:failing", 1, ["own:failing() fails: OSError: no weights here", "--debug"]),
        ("own:choosy", 1, ["missing 1 required positional argument", "called without arguments"]),
        ("own:leaving", 1, ["own:leaving() fails: SystemExit: 0"]),
        ("own:nothing", 1, ["returned a NoneType", "pixels [B, C, H, W] in [0, 1] to logits [B,"
                                                   " classes]"]),
        ("bad:load", 1, ["importing bad fails: ZeroDivisionError"]),
        ("worse:load", 1, ["importing worse fails: SyntaxError"]),
        ("own:training", 2, ["training mode", "model.eval()"]),
        ("own:softmax", 1, ["returns probabilities", "return the logits before the softmax"]),
        ("own:broken", 1, ["NaN or infinite logits for 12 of 12"]),
        ("own:pair", 1, ["returns a tuple", "such as its first item"]),
        ("runs/nowhere", 2, ["no such run folder or weights file"]),
        ("my-package:load", 2, ["no such run folder or weights file"]),
    ],
)  # fmt: skip
def test_classifiers_that_cannot_be_attacked(name: str, code: int, messages: list[str]) -> None:
    refused(attack(name, "--out", "out"), code, *messages)
    assert not Path("out").exists()


def test_one_that_ends_the_program_is_an_error_also_where_its_logits_are_only_counted() -> None:
    asked = attack("own:asked", "--out", "out", data="digits")
    refused(asked, 1, "the classifier fails on float32 images", "SystemExit: 0")


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ([], ["name one model"]),
        (["own:load", "--model", "own:two"], ["name one model"]),
        (["own:load", "--eps", "0"], ["eps must be above 0, not 0"]),
        (["own:load", "--eps", "8"], ["8 is too large; write 8/255"]),
        (["own:load", "--eps", "small"], ["--eps small: not a number; write 0.03, 8/255 or 1%"]),
        (["own:load", "--eps", "1/0"], ["--eps 1/0: not a number"]),
        (["own:load", "--curve", "2/255,x"], ["--curve x: not a number"]),
        (["own:load", "--norm", "linfinity"], ["unknown norm 'linfinity'; did you mean 'linf'?"]),
        (["own:load", "--n", "13"], ["--n 13: data.npz has only 12 labelled images"]),
        (["own:load", "--n", "0"], ["--n must be at least 1"]),
        (["own:load", "--ci", "narrow"], ["--ci narrow: not a number"]),
        (["own:load", "--ci", "0"], ["ci must lie between 0 and 0.5", "--ci"]),
        (["own:load", "--ci", "1"], ["write 1%"]),
        (["own:load", "--budget", "soon"], ["--budget soon: not a duration; write 90s, 10m or 2h"]),
        (["own:load", "--budget", "10mm"], ["--budget 10mm: not a duration"]),
        (["own:load", "--budget", "0s"], ["--budget 0s: not a duration"]),
        (["own:load", "--source", "own:other"], ["suite quick uses no sources"]),
        (["own:load", "--sampled"], ["--sampled are for models of PARADISE"]),
        (["own:load", "--head", "a"], ["--head and --sampled are for"]),
        (["own:load", "--split", "tset"], ["no split 'tset'; did you mean 'test'?"]),
        (["own:load", "--device", "tpu5"], ["--device tpu5: no such kind of device"]),
        (["own:load", "--precision", "fp8"], ["unknown precision 'fp8'; known: auto, fp32, bf16"]),
        (["own:load", "--set", "data.size=3"], ["--set data.size=3: there is nothing to set of an"
                                                " .npz"]),
    ],
)  # fmt: skip
def test_commands_that_mean_nothing(arguments: list[str], messages: list[str]) -> None:
    refused(attack(*arguments, "--out", "out"), 2, *messages)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments", [["own:load", "--eps", "small"], ["own:load", "--budget", "soon"], []]
)
def test_what_was_typed_wrongly_is_answered_without_torch(arguments: list[str]) -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from paradise_cli.cli import app;"
        f" done = CliRunner().invoke(app, ['attack', *{arguments!r}]); assert done.exit_code == 2;"
        " assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_suites_and_data_that_are_not_there() -> None:
    refused(
        attack("own:load", suite="quik"),
        2,
        "unknown suite 'quik'; did you mean 'quick'?",
        "standard",
    )
    refused(attack("own:load", suite="transfer"), 2, "give sources (--source)")
    refused(
        attack("own:load", data="digit"),
        2,
        "--data digit: no such folder",
        "did you mean 'digits'?",
    )
    refused(attack("own:load", data="nowhere.npz"), 2, "no such file: nowhere.npz")
    refused(CliRunner().invoke(app, ["attack", "own:load"]), 2, "--data is needed")
    Path("damaged.npz").write_bytes(Path("data.npz").read_bytes()[:99])
    refused(attack("own:load", data="damaged.npz"), 1, "cannot be read as numpy arrays")
    np.savez("bright.npz", images=IMAGES.numpy() * 255, labels=LABELS.numpy())
    refused(attack("own:load", data="bright.npz"), 1, "must lie in [0, 1]", "divide by 255")
    np.savez("labels.npz", images=IMAGES.numpy(), labels=LABELS.numpy() - 4)
    refused(attack("own:load", data="labels.npz"), 1, "labels run from -4 to -2", "or -1")
    np.savez("large.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.zeros(2, int))
    refused(attack("own:load", data="large.npz"), 1, "fails on float32 images [2, 1, 8, 8]")


def test_notes_say_what_was_left_out_and_what_depends_on_the_batch() -> None:
    labels = LABELS.numpy().copy()
    labels[:3] = -1
    np.savez("some.npz", images=IMAGES.numpy()[:, 0], labels=labels)
    done = attack("own:of_the_batch", "--json", data="some.npz")
    assert document(done)["n"] == N - 3
    assert "left out: 3 images without a label (-1)" in done.stderr
    assert "depends on the other images of its batch" in document(done)["notes"][0]
    assert document(done)["notes"][-1] == "left out: 3 images without a label (-1)"
    done = attack("own:of_the_batch", data="some.npz")
    assert "depends on the other images of its batch" in done.stderr
    assert done.stderr.count("left out") == 1


def test_a_model_of_ours_with_folders_and_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("fgsm", {}, "FGSM"),)))
    weights = save_tiny(Path("tiny.safetensors"), stochastic=False)
    for grey, name in enumerate(("cat", "dog", "newt")):
        for file in ("test/{}/0", *(f"train/{{}}/{number}" for number in range(8))):
            path = Path("photos", file.format(name) + ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 14), 60 * grey).save(path)
    done = attack(weights, "--json", data="photos")
    assert document(done)["n"] == 3
    refused(
        attack(weights, "--sampled", data="photos"), 2, "is deterministic", "leave out --sampled"
    )
    refused(attack(weights), 1, "data.npz: images [1, 6, 6], the model reads [1, 12, 12]")


def test_transfer_from_another_classifier() -> None:
    done = attack(
        "own:load", "--source", "own:other", "--eps", 0.05, "--json", "--n", 4, suite="transfer"
    )
    stages = document(done)["attacks"]
    assert {stage["source"] for stage in stages} == {"own:other"}
    names = {"FGSM", "R+FGSM", "Step-Rand", "Iter-Rand", "PGD-Rand", "PGD margin"}
    assert {stage["attack"] for stage in stages} == names
    least = min(stage["share"]["value"] for stage in stages)
    assert document(done)["lowest_transfer"]["share"]["value"] == least
    refused(
        attack("own:load", "--source", "own:pair", suite="transfer"), 1,
        "source own:pair: the classifier returns a tuple",
    )  # fmt: skip


def test_the_audit_attacks_the_model_without_its_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Siblings] = []

    def audit(*_: Any, siblings: Siblings, **__: Any) -> Audit:
        given.append(siblings)
        return Audit("not detected", (), (), ())

    monkeypatch.setattr(library, "audit", audit)
    document(attack("own:load", "--base", "own:other", "--json", "--out", "out"))
    document(attack("own:load", "--json", "--out", "out"))
    base, none = (siblings.base for siblings in given)
    assert none is None and base is not None and len(base.subject.images) == 4  # of --audited
    assert torch.equal(base.subject.function(IMAGES), balanced(3, 1)(IMAGES))
    refused(attack("own:load", "--base", "own:pair"), 1, "base: the classifier returns a tuple")
    refused(attack("own:load", "--base", "own:nobody"), 2, "own has no function nobody")
    assert not Path("attacks").exists()


def test_what_decides_the_ledger_names_the_folder() -> None:
    for given in ([], ["--seed", 1], ["--norm", "l2"], ["--n", 4], ["--eps", "0.002"]):
        document(attack("own:load", "--eps", "1/255", *given, "--json"))
    assert {path.name for path in Path("attacks").iterdir()} == {
        "own-load-data-quick-linf-1_255-n12-s0",
        "own-load-data-quick-linf-1_255-n12-s1",
        "own-load-data-quick-l2-1_255-n12-s0",
        "own-load-data-quick-linf-1_255-n4-s0",
        "own-load-data-quick-linf-0.002-n12-s0",
    }


def test_a_folder_belongs_to_one_attack() -> None:
    given = ["--eps", EPS, "--out", "out", "--json"]
    first = document(attack("own:load", *given))
    refused(
        attack("own:other", *given), 2, "out holds another attack, with other classifier", "--out"
    )
    refused(attack("own:load", *given, "--seed", 1), 2, "with other seed (0, now 1)")
    document(attack("own:load", "--eps", EPS / 2, "--out", "out", "--json"))
    assert document(attack("own:load", *given))["images"] == first["images"]
    Path("out/ledger.jsonl").write_bytes(b"{}}\n")
    refused(
        attack("own:load", *given), 1, "ledger.jsonl is damaged in line 1", "choose another folder"
    )
    refused(
        attack("own:load", "--out", "own.py/out"),
        1,
        "cannot write own.py/out",
        "choose another place",
    )
    refused(attack("own:load", "--out", "own.py"), 1, "cannot write own.py: File exists")


def interrupting(call: int) -> Callable[[], Iterator[Callable[..., None]]]:
    """A progress during which, at this call, somebody presses Ctrl-C."""

    @contextmanager
    def progress() -> Iterator[Callable[..., None]]:
        calls = itertools.count(1)

        def pulse(*_: object) -> None:
            if next(calls) == call:
                raise KeyboardInterrupt

        yield pulse

    return progress


def test_stopped_and_started_again_it_ends_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["own:load", "--eps", EPS, "--json", "--out"]
    whole = document(attack(*given, "whole"))
    lines = []
    for call in (1, 4, 2):
        with monkeypatch.context() as patch:
            patch.setattr(command, "attack_progress", interrupting(call))
            done = attack(*given, "out")
        assert done.exit_code == 130, done.output
        assert "stopped: every run is kept, and the same command goes on from there" in done.stderr
        assert done.stdout == "" and "Traceback" not in done.output
        assert not Path("out/report.json").exists()
        lines.append(Path("out/ledger.jsonl").read_bytes().count(b"\n"))
    assert lines == sorted(lines) and lines[-1] > 1
    again = document(attack(*given, "out"))
    for found in (whole, again):
        found["settings"].pop("seconds")
        found["settings"].pop("passes")
    assert again == whole
    one, other = (
        load_tensors(Path(name, "adversarial.safetensors"))[0] for name in ("whole", "out")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
