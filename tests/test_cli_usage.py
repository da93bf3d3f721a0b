"""Mistakes on the command line: named at once, with what was probably meant."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner, Result

from paradise_cli.cli import app, output
from paradise_cli.core.registry import close_matches, did_you_mean
from paradise_cli.recipe.files import complete_recipe, shipped_recipes
from tests.recipe_text import GOOD, lines_of, write_recipe

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


# Arguments, and what the message says: each is answered before torch is loaded.
MISTAKES = [
    (["train", "digist"], "digist: no such recipe file; did you mean 'digits'"),
    (["train", "fashion-mnist-supervised"], "did you mean 'fashion_mnist_supervised'"),
    (["sweep", "gaussian-source", "--alpha", "0.1,1"], "did you mean 'gaussian_source'"),
    (["sweep", "digits", "--alpha", "1,0"], "--alpha '1,0' is not a list of numbers > 0"),
    (["sweep", "digits", "--grid", "a"], "--grid 'a': write key=value,value"),
    (["nosuch"], " nosuch: no such command; there are: train, sweep, evaluate"),
    (["figure", "nosuch"], "no such command; there are: ellipses, serial, arithmetic"),
    (["figure", "surfac"], "no such command; did you mean 'surface'?; there are"),
    (["recipes", "show", "Digits"], "did you mean 'digits'"),
    (["rd", "bernouli"], "unknown source 'bernouli'; did you mean 'bernoulli'"),
    (["rd", "missing.npz"], "no such file: missing.npz"),
    (["rd", "notes.txt"], "ends in .npz or .json or .npy"),
    (["rd", "uniform", "--slopes", "x"], "--slopes 'x' is not a list"),
    (["rd", "uniform", "--distortion", "squared"], "--distortion is for files"),
    (["rate", "mu.npy", "missing.npy"], "no such file: missing.npy"),
    (["rate", "missing.npz"], "no such file: missing.npz"),
    (["evaluate", "runs/min-e"], "no such run folder or weights file, and no model of the zoo;"
     " did you mean 'runs/min_e'?"),
    (["evaluate", "min_e"], "did you mean 'runs/min_e'?"),
    (["encode", "x/", "--out", "z.npy", "--model", "elsewhere/othr"], "'elsewhere/other'?"),
    (["predict", "x/", "--model", "cifar10_rn20"], "did you mean 'cifar10-rn20'?"),
    (["reconstruct", "x/", "--out", "y", "--model", "nothing"], "nothing: no such run folder"),
    (["attack", "runs/min-e"], "did you mean 'runs/min_e'?"),
    (["attack", "runs/min_e", "--eps", "x"], "--eps x: not a number"),
    (["certify", "runs/min-e", "--sigma", "1"], "did you mean 'runs/min_e'?"),
    (["certify", "runs/min_e", "--sigma", "0"], "sigma must be a number above 0, not 0"),
    (["encode", "x/", "--out", "z.csv"], "--out z.csv: end it in .npy or .npz"),
    (["encode", "x/", "--out", "z"], "--out z: end it in .npy or .npz"),
    (["predict", "x/", "--out", "p.npy"], "--out p.npy: end it in .csv or .json"),
    (["reconstruct", "x/", "--out", "r.jpg"], "--out r.jpg: end it in .png"),
    (["export", "digits-2d", "--out", "m.pt2"], "--out m.pt2: end it in .onnx"),
    (["export", "digits-2d", "-f", "torch", "--out", "m.ONNX"], "--out m.ONNX: end it in .pt2"),
    (["evaluate", "digits-2d", "--out", "e.csv"], "--out e.csv: end it in .json"),
    (["evaluate", "digits-2d", "--per-example", "e.json"], "--per-example e.json: end it in .parq"),
    (["rate", "mu.npy", "--out", "r.npz"], "--out r.npz: end it in .json"),
    (["train", "digits", "--out", "r.csv"], "--out r.csv: a folder is written; leave out .csv"),
    (["sweep", "digits", "--out", "s.png"], "--out s.png: a folder is written"),
    (["rd", "bernoulli", "--out", "c.csv"], "--out c.csv: a folder is written"),
    (["attack", "digits-2d", "--out", "a.html"], "--out a.html: a folder is written"),
    (["certify", "digits-2d", "--sigma", "1", "--out", "c.json"], "--out c.json: a folder is"),
    (["zoo", "card", "digits-2d", "--out", "c.json"], "--out c.json: end it in .yaml"),
    (["sweep", "digits", "--alpha", "0.1:10:100000000"], "at most 10,000 numbers"),
    (["sweep", "digits", "--grid", f"optim.lr=1:2:{10**30}"], "at most 10,000 numbers"),
    (["sweep", "digits", "--seeds", "1000000000"], "less than or equal to 1000"),
    (["rd", "uniform", "--slopes", "0.1:10:100000000"], "at most 10,000 numbers"),
    (["rd", "uniform", "--slopes", ",".join(["1"] * 10_001)], "at most 10,000 numbers"),
    (["rd", "uniform", "--points", "1000000000"], "less than or equal to 10000"),
    (["rd", "uniform", "--m", "1000000000"], "less than or equal to 1000000"),
    (["rd", "gaussian", "--letters", "1000000000"], "less than or equal to 1000000"),
    (["encode", "x/", "--out", "z.npy", "--samples", "1000000000"], "less than or equal to 10000"),
    (["predict", "x/", "--batch-size", f"{10**30}"], "less than or equal to 16384"),
    (["predict", "x/", "--top", f"{10**30}"], "it must lie within 2^63"),
    (["evaluate", "digits-2d", "--draws", "1000000000"], "less than or equal to 10000"),
    (["rate", "mu.npy", "--draws", "1000000000"], "less than or equal to 10000"),
    (["rate", "mu.npy", "--seed", f"{-10**30}"], "it must lie within 2^63"),
    (["attack", "digits-2d", "--batch-size", "100000000"], "less than or equal to 16384"),
    (["certify", "digits-2d", "--sigma", "1", "--samples", f"{10**12}"], "or equal to 10000000"),
    (["rate", "mu.npy", "--out", "."], "--out . is a folder: name a file in it"),
    (["rd", "uniform", "--tol", "inf"], "less than or equal to 1"),
    (["attack", "runs/min_e", "--eps", "nan%"], "--eps nan%: not a number"),
    (["certify", "runs/min_e", "--sigma", "inf/1%"], "--sigma inf/1%: not a number"),
    (["encode", "~nosuch/*.jpg", "--out", "z.npy"], "the home folder of ~nosuch is not known"),
    (["train", "digits", "--out", "~nosuch/x"], "the home folder of ~nosuch is not known"),
    (["rate", "x" * 5000 + ".npy"], "File name too long"),
    (["train"], "Missing argument"),
    (["train", "digits", "--dry_run"], "--dry-run"),
    (["trian", "digits"], "trian"),
]  # fmt: skip


def test_mistakes_are_answered_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "mu.npy").write_bytes(b"")
    for run_folder in ("runs/min_e", "elsewhere/other"):
        (tmp_path / run_folder).mkdir(parents=True)
        (tmp_path / run_folder / "recipe.yaml").write_text("")
    program = f"""
import json, sys
from typer.testing import CliRunner
from paradise_cli.cli import app
for arguments in {[arguments for arguments, _ in MISTAKES]!r}:
    done = CliRunner().invoke(app, arguments)
    print(json.dumps([done.exit_code, done.stderr, "torch" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (arguments, message), (code, text, torch) in zip(MISTAKES, answers, strict=True):
        assert code == 2 and message in text, (arguments, text)
        assert "Traceback" not in text and not torch, arguments


def every_parameter() -> list[tuple[list[str], Any]]:
    """All commands by the words that call them, each with one of its parameters."""
    found, groups = [], [([], get_command(app))]
    while groups:
        words, command = groups.pop()
        groups += [
            ([*words, name], each) for name, each in getattr(command, "commands", {}).items()
        ]
        if not hasattr(command, "commands"):
            found += [(words, parameter) for parameter in command.params]
    return found


def test_no_option_and_no_argument_takes_an_empty_value() -> None:
    checked = set()
    for words, parameter in every_parameter():
        if getattr(parameter, "is_flag", False) or parameter.default == "":
            continue
        before = 0
        if parameter.param_type_name == "argument":
            places = [p.name for w, p in every_parameter() if w == words and p.opts == [p.name]]
            before = places.index(parameter.name)
        name = [] if parameter.param_type_name == "argument" else parameter.opts[:1]
        done = run(*words, *["x"] * before, *name, "")
        assert done.exit_code == 2 and "it is empty; give a value" in done.stderr, (words, name)
        checked.update(parameter.opts)
    assert {"--out", "--per-example", "--card", "--model", "--data", "--labels"} < checked


@pytest.mark.parametrize("buffering", [-1, 1])  # in blocks as for a file, or by line
@pytest.mark.parametrize("arguments", ["zoo ls", "zoo info digits-2d --json", "--help", "rd -h"])
def test_stdout_that_cannot_be_written_is_one_message(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: str,
    buffering: int,
) -> None:  # fmt: skip
    ours, theirs = os.pipe()
    os.close(ours)
    no_room = "error: cannot write to stdout: No space left on device\n"
    for place, message in (("/dev/full", no_room), (theirs, "")):  # a reader has read enough
        if place == "/dev/full" and not os.path.exists(place):
            continue
        with open(place, "w", buffering=buffering) as stdout, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            with pytest.raises(SystemExit) as ended:
                app(arguments.split(), prog_name="paradise")
        assert ended.value.code == 1
        assert capfd.readouterr().err == message
    # As the shell's `>&-` leaves it.
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        app(arguments.split(), prog_name="paradise")
    assert ended.value.code == 1
    assert capfd.readouterr().err == "error: cannot write to stdout: it is closed\n"


def test_an_unknown_recipe_names_close_ones_and_not_all() -> None:
    text = run("train", "cifar10-rn20").stderr
    begin = [f"'{name}'" for name in shipped_recipes() if name.startswith("cifar10_rn20")]
    assert f"did you mean {' or '.join(begin[:3])}?\n`paradise recipes ls` lists the " in text
    assert len(begin) > 1 and len(text.splitlines()) == 2


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("image-folder", ["image_folder", "digits"], "image_folder"),
        ("Cross-Entropy", ["bernoulli", "cross_entropy"], "cross_entropy"),
        ("runs_a", ["runs-b", "runs-a"], "runs-a"),
        ("zzz", ["image_folder"], None),
    ],
)
def test_hyphens_underscores_and_capitals_are_alike(
    word: str, known: list[str], meant: str | None
) -> None:
    assert did_you_mean(word, known) == (f"; did you mean '{meant}'?" if meant else "")
    assert close_matches(word, known)[:1] == ([meant] if meant else [])


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("alpha=1", "'objective.alpha'"),
        ("lr=0.1", "'optim.lr'"),
        ("epoch=3", "'train.epochs'"),
        ("train.lr=0.1", "'optim.lr'"),
        ("latent-dim=3", "'model.latent_dim'"),
        ("model.latent-dim=3", "'latent_dim'"),
        ("model.hidden=[3]", "'model.backbone.hidden'"),
        ("weight=2", "'objective.tasks.0.weight'"),
        ("validation=0", "'data.validation'"),
    ],
)
def test_a_misplaced_key_is_told_its_place(override: str, meant: str) -> None:
    (line,) = lines_of(write_recipe(GOOD), override)
    assert line.startswith(f"--set {override}: ") and f"did you mean {meant}?" in line


def test_a_key_of_many_sections_is_no_hint() -> None:
    (line,) = lines_of(write_recipe(GOOD), "train.name=x")
    assert "; known: validate, epochs, min_steps" in line


def test_a_misplaced_key_of_a_file_is_told_its_place() -> None:
    lines = lines_of(write_recipe(GOOD.replace("latent_dim: 2", "latent_dim: 2\n  alpha: 3")))
    assert lines == ["r.yaml:6:3: model.alpha: unknown key; did you mean 'objective.alpha'?"]


def test_recipes_are_completed() -> None:
    Path("mine").mkdir()
    Path("mine/digits.yaml").write_text(GOOD)
    Path("digits_of_mine.yml").write_text(GOOD)
    Path("digits.txt").write_text("")
    shipped = [name for name in shipped_recipes() if name.startswith("digits")]
    assert complete_recipe("digi") == [*shipped, "digits_of_mine.yml"]
    assert complete_recipe("fashion-mnist-sup") == ["fashion_mnist_supervised"]
    assert complete_recipe("mi") == ["mine/"]
    assert complete_recipe("mine/") == ["mine/digits.yaml"]
    assert set(shipped_recipes()) <= set(complete_recipe(""))


@pytest.mark.parametrize("command", ["train", "sweep", "recipes show", "recipes check"])
def test_a_shell_is_offered_recipes_without_torch(command: str) -> None:
    program = (
        "import sys\n"
        "from paradise_cli.__main__ import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(str('torch' in sys.modules))"
    )
    words = f"paradise {command} fashion_mnist_s"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env=os.environ | {
            "_PARADISE_COMPLETE": "complete_bash", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )  # fmt: skip
    assert "fashion_mnist_supervised" in done.stdout.split() and done.stderr == "False"


def test_another_result_is_never_overwritten() -> None:
    small = ["--points", "2", "--tol", "1e-3"]
    first = run("rd", "bernoulli", "--p", "0.3", *small)
    assert first.exit_code == 0 and Path("curves/bernoulli/curve.json").exists()
    before = Path("curves/bernoulli/curve.json").read_bytes()
    # The same question again is the same result, in the same place.
    assert run("rd", "bernoulli", "--p", "0.3", *small).exit_code == 0
    assert sorted(path.name for path in Path("curves").iterdir()) == ["bernoulli"]
    other = run("rd", "bernoulli", "--p", "0.4", *small)
    assert other.exit_code == 0
    assert "curves/bernoulli holds another result; this one goes to curves/bernoulli-2" in (
        other.stderr
    )
    assert run("rd", "bernoulli", "--p", "0.4", *small).exit_code == 0
    assert sorted(path.name for path in Path("curves").iterdir()) == ["bernoulli", "bernoulli-2"]
    refused = run("rd", "bernoulli", "--p", "0.5", *small, "--out", "curves/bernoulli")
    assert refused.exit_code == 2 and "holds another result (bernoulli, p = 0.3)" in refused.stderr
    assert Path("curves/bernoulli/curve.json").read_bytes() == before
    # What an older version left, or anybody else, is kept as well.
    Path("curves/uniform").mkdir()
    Path("curves/uniform/curve.json").write_text("{}")
    assert run("rd", "uniform", *small).exit_code == 0
    assert Path("curves/uniform/curve.json").read_text() == "{}"
    assert Path("curves/uniform-2/curve.json").exists()


def test_the_built_in_sources_are_those_of_the_list() -> None:
    from paradise_cli.information.known_sources import BUILDERS
    from paradise_cli.information.source_names import SOURCES

    assert [builder.__name__ for builder in BUILDERS.values()] == list(SOURCES)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", list(commands(get_command(app))), ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=80).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_what_is_long_is_broken_in_a_terminal_and_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "paradise attack cifar10-rn20 --suite standard --norm linf " * 3
    output.print_entry("by  ", words.strip(), " \\")
    assert capsys.readouterr().out == f"by  {words.strip()}\n"
    # What somebody else wrote is no line of ours, and no command to the terminal.
    output.print_entry("limits  ", "none\x1b[2J\nerror: a fault")
    assert capsys.readouterr().out == "limits  none\\x1b[2J\\nerror: a fault\n"
    terminal = Console(force_terminal=True, width=60, height=20)
    monkeypatch.setattr(output, "console", terminal)
    output.print_entry("by  ", words.strip(), " \\")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= 60
    # As a shell joins them.
    assert " ".join("\n".join(lines).replace("\\\n", "").split()) == f"by {words.strip()}"


@contextmanager
def lost(how: str) -> Iterator[IO[str] | None]:
    """A stderr that nobody reads any more, that has no room, or that the shell has closed."""
    if how == "closed":
        yield None
        return
    if how == "full":
        stream = open("/dev/full", "w", buffering=1)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        stream = open(writer, "w", buffering=1)
    with stream:
        yield stream


@pytest.mark.parametrize("how", ["unread", "full", "closed"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["rd", "bernoulli", "--points", "3", "--json"], 0),  # writes files, says so in a note
        (["rd", "bernouli"], 2),
    ],
)
def test_a_stderr_that_is_lost_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: str,
    arguments: list[str],
    code: int,
) -> None:
    with lost(how) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert (ended.value.code or 0) == code
        assert sys.stderr is stream
    shown, said = capfd.readouterr()
    assert said == ""
    assert json.loads(shown) if code == 0 else shown == ""
    assert Path("curves/bernoulli/curve.json").exists() == (code == 0)
