"""What ends a command: each in one message, whatever was raised and whatever is in its text."""

import os
import subprocess
import sys
import warnings
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from paradise_cli.cli.entry import App, Group
from paradise_cli.cli.images import say_whose_data
from paradise_cli.cli.output import note, print_table
from paradise_cli.core.arrays import map_array, read_array
from paradise_cli.core.errors import LONGEST_LINE, ParadiseError, UsageError, shown
from paradise_cli.core.resources import cache_dir, cache_folder
from paradise_cli.inference.find_model import find_model

FAULT = "; this is a fault of PARADISE, please report it: `paradise --debug`, followed by"
# What a command raises, and how its message begins and how long it may be.
RAISED = [
    (KeyError("a"), f"error: KeyError: 'a'{FAULT}"),
    (ValueError("a\x1b[2J\nb"), rf"error: ValueError: a\x1b[2J b{FAULT}"),
    (RuntimeError("x" * 10**6), "error: RuntimeError: xxx"),
    (AssertionError(), f"error: AssertionError{FAULT}"),
    (RecursionError("too deep"), f"error: RecursionError: too deep{FAULT}"),
    (MemoryError(), "error: not enough memory: MemoryError;"),
    (EOFError("of a file"), "error: RuntimeError: a file ends too early: of a file"),
    (OSError("no file named"), f"error: OSError: no file named{FAULT}"),
    (PermissionError(13, "Permission denied", "a\x1b"), r"error: cannot open a\x1b: Permission de"),
    (FileNotFoundError(2, "No such file", b"\xff"), r"error: cannot open \udcff: No such file"),
    (ParadiseError("wrong\x1b[2J\nallowed: a"), "error: wrong\\x1b[2J\nallowed: a"),
    (ParadiseError(f"first {'9' * 10**5} last"), "error: first 999"),
]


def program(error: BaseException) -> App:
    """A program of one command, which fails like this."""
    app = App(cls=Group, pretty_exceptions_enable=False)

    @app.callback()
    def root(debug: bool = False) -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(("error", "message"), RAISED, ids=lambda value: type(value).__name__)
def test_whatever_is_raised_is_one_message(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program(error)(["fail"])
    text = capsys.readouterr().err
    assert ended.value.code == 1 and text.startswith(message) and "Traceback" not in text
    assert len(text) < LONGEST_LINE + 100 and text.count("\n") == message.count("\n") + 1
    assert text.replace("\n", "").isprintable()
    if "last" in str(error):
        assert text.endswith("9 last\n")
    seen = RuntimeError if isinstance(error, EOFError) else type(error)
    with pytest.raises(seen):
        program(error)(["--debug", "fail"])


def test_a_fault_is_seen_by_tests_and_ctrl_c_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    error = KeyError("a")
    assert CliRunner().invoke(program(error), ["fail"]).exception is error
    for raised, code in ((KeyboardInterrupt(), 130), (typer.Exit(7), 7), (typer.Abort(), 1)):
        with pytest.raises(SystemExit) as ended:
            program(raised)(["fail"])
        assert ended.value.code == code
        said = {KeyboardInterrupt: "stopped: before it was done\n", typer.Abort: "Aborted.\n"}
        assert capsys.readouterr().err == said.get(type(raised), "")


def test_a_warning_of_a_library_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    app = program(ParadiseError("later"))

    @app.command()
    def warn() -> None:
        warnings.warn("odd\x1b\nfile", UserWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            app(["warn"])
    assert capsys.readouterr().err == "warning: odd\\x1b\\nfile\n"


def test_nothing_shown_commands_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    app = program(ParadiseError("later"))

    @app.command()
    def show() -> None:
        note("skipped \x1b[2J\x07\x9b1A")
        print_table("\x1b]0;title", ["\x1b[1A"], [["a\nb\x1b[2J"]])

    done = CliRunner().invoke(app, ["show"])
    assert done.stderr == "skipped \\x1b[2J\\x07\\x9b1A\n"
    assert done.stdout.replace("\n", "").isprintable() and r"a\nb\x1b[2J" in done.stdout


def test_a_letter_that_stdout_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    app, written = App(cls=Group), BytesIO()
    app.callback()(lambda: None)
    app.command("show")(lambda: print_table("été", ["naïve"], [["ß"]]))
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit) as ended:
        app(["show"])
    assert ended.value.code == 0
    assert all(text in written.getvalue() for text in (rb"\xe9t\xe9", rb"na\xefve", rb"\xdf"))


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("47", 47)])
def test_a_table_is_drawn_where_there_are_said_to_be_no_columns(columns: str, width: int) -> None:
    ask = "from paradise_cli.cli.output import console; print(console.width)"
    environment = {**os.environ, "COLUMNS": columns}
    told = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{width}\n"


@pytest.mark.parametrize("text", ["", "a", "a\nb", "ä — ±", "x" * LONGEST_LINE])
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARADISE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    # As Python leaves it where neither HOME nor the system knows one.
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ParadiseError, match="set PARADISE_CACHE to a folder"):
        cache_dir()
    monkeypatch.setattr("os.path.expanduser", lambda path: path.replace("~", "relative"))
    with pytest.raises(ParadiseError, match="set PARADISE_CACHE to a folder"):
        cache_dir()
    monkeypatch.setattr("os.path.expanduser", lambda path: path.replace("~", "/home/me"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path("/home/me/.cache/paradise")
    monkeypatch.setenv("PARADISE_CACHE", "here")
    assert cache_dir() == Path("here")


def test_a_folder_of_the_cache_is_swept_whether_or_not_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left is nobody's, and often all files are there: nobody writes."""
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path))
    assert not cache_folder("later").exists()
    left = tmp_path / "decoded" / "more" / ".a.npy.0123abcd.tmp"
    left.mkdir(parents=True)
    assert cache_folder("decoded", "more") == tmp_path / "decoded" / "more"
    assert not left.exists() and left.parent.is_dir()


@pytest.mark.parametrize(
    ("data", "overrides", "said"),
    [
        (None, None, "data: theirs/a\\x1b, as w.safetensors names it (--data names another)\n"),
        (None, ["data.size=8"], "data: theirs/a\\x1b, as w.safetensors names it"),
        (None, ["data.root=mine"], ""),
        ("mine", None, ""),
    ],
)
def test_a_folder_that_only_the_weights_name_is_said(
    data: str | None, overrides: list[str] | None, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = SimpleNamespace(data=SimpleNamespace(root=Path("theirs/a\x1b")))
    loaded: Any = SimpleNamespace(recipe=recipe, source=Path("w.safetensors"))
    say_whose_data(loaded, data, overrides)
    text = capfd.readouterr().err
    assert text.startswith(said) and bool(text) == bool(said)


def test_what_cannot_be_opened_is_neither_missing_nor_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UsageError, match=r"cannot read .*pipe\.safetensors: it is no regular file"):
        find_model(tmp_path / "pipe.safetensors")
    # Root may open everything: the answer of the system is given for it.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for name, read in (("a.safetensors", find_model), ("a.npy", read_array), ("a.npy", map_array)):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match=rf"cannot read .*{name}: Permission denied"):
            read(tmp_path / name)
