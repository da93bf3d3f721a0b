"""What all commands share before and after their own work: arguments, errors, the end of stdout."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from paradise_cli.cli.progress import showing_work
from paradise_cli.cli.streams import Unwritable, checked_stdout, lasting_stderr
from paradise_cli.core.errors import (
    Interrupted,
    ParadiseError,
    UsageError,
    named,
    printable,
    shown,
)
from paradise_cli.core.processes import beside_main, keep_freed_memory
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.signals import end_tidily, goes_on, ignore_schedulers

_SHARED = ("train", "attack", "certify", "evaluate")
"""Commands whose work several processes share; any other is the main one's."""

_RESUMED = ("train", "attack", "certify", "sweep", "reproduce")
"""Commands that go on where they were stopped: also before there was anything to keep."""

_SECONDS_BEHIND = 5.0
"""How long a process waits with its message for that of the main one."""


class Command(TyperCommand):
    """Refuses what no command can use: an empty value, mostly that of a shell's variable that is
    not set, a home that is not known, integers that no machine counts to. What several processes do
    not share ends in all but the main one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # As it was typed: of an empty path pathlib makes the current folder.
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        parameters: list[Any] = self.get_params(ctx)
        for parameter in parameters:
            # Where nothing is the default, nothing may be said as well.
            if parameter.default == "" or ctx.resilient_parsing:
                continue
            value: Any = typed.get(parameter.name)
            several = isinstance(value, Sequence) and not isinstance(value, str)
            if "" in (value if several else [value]):
                reason = "it is empty; give a value, or leave it out"
                raise typer.BadParameter(reason, ctx, parameter)
        rest = super().parse_args(ctx, args)
        for parameter in parameters:
            value = ctx.params.get(parameter.name)
            for each in value if isinstance(value, list | tuple) else [value]:
                if why := _unusable(each):
                    raise typer.BadParameter(why, ctx, parameter)
        shares = self.name in _SHARED or _in_parts(self, ctx)
        # What a training would take one process can say.
        shares = shares and not ctx.params.get("dry_run")
        # Under torchrun all would do the whole of it, and write the same files.
        if not shares and beside_main():
            raise typer.Exit
        return rest

    def invoke(self, ctx: Any) -> Any:
        begun = goes_on("before there was anything to keep; the same command begins again")
        resumed = self.name in _RESUMED or _in_parts(self, ctx)
        with begun if resumed else nullcontext():
            return super().invoke(ctx)


def _in_parts(command: Command, ctx: Any) -> bool:
    """Whether it is an encoding in parts, which several processes share, and which goes on."""
    return command.name == "encode" and ctx.params.get("parts") is not None


def _unusable(value: object) -> str | None:
    """Why no command can use this number, text or path, if it cannot."""
    # No tensor and no generator takes a larger one, and none says so in words.
    if isinstance(value, int) and abs(value) >= 2**63:
        return "it must lie within 2^63"
    # Here and not in every reader of paths, to whom Python says it by a RuntimeError.
    text = str(value) if isinstance(value, str | os.PathLike) else ""
    if text.startswith("~") and os.path.expanduser(text) == text:
        user = printable(text.partition("/")[0])
        return f"the home folder of {user} is not known; a file of that name is ./{user}"
    return None


class Commands(TyperGroup):
    """Says which commands there are where one is not known."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        # What begins with a hyphen is an unknown option, of which the library speaks.
        if not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            hint = did_you_mean(args[0], known)
            words = f"{ctx.command_path} {args[0]}"
            raise UsageError(f"{words}: no such command{hint}; there are: {', '.join(known)}")
        return super().resolve_command(ctx, args)


class Group(Commands):
    """Shows a user's mistake as one message and keeps tracebacks for --debug."""

    _debug = False
    _is_program = False

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """As a program, whose faults are messages, too; tests call `main`, and see them."""
        self._is_program = True
        warnings.showwarning = _say_warning
        # Where its encoding lacks a letter, that is shown escaped, as on stderr.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().__call__(*args, **extra)
        except Exception as error:
            if self._debug:
                raise
            with lasting_stderr():
                code = _say(_unforeseen(error))
            raise SystemExit(code) from error

    def invoke(self, ctx: Any) -> Any:
        self._debug = ctx.params.get("debug", False)
        try:
            keep_freed_memory()
            with end_tidily(), showing_work():
                return super().invoke(ctx)
        except EOFError as error:
            # Of a file: typer would take it for the end of what is typed, and say "Aborted!".
            raise RuntimeError(f"a file ends too early: {error}") from error
        except ParadiseError as error:
            if self._debug:
                raise
            # Each process of a job is told, and one a moment later than another. Not in a program
            # of somebody else's, which goes on.
            if self._is_program and isinstance(error, Interrupted):
                ignore_schedulers()
            raise typer.Exit(_say(error)) from error
        except OSError as error:
            # Where it names a file, the place of it in our source tells a user nothing more.
            if self._debug or not isinstance(error.filename, str | bytes):
                raise
            reason = f"cannot open {os.fsdecode(error.filename)}: {error.strerror}"
            raise typer.Exit(_say(ParadiseError(reason))) from error
        except KeyboardInterrupt as error:
            # Who keeps something says so by an Interrupted of its own.
            raise typer.Exit(_say(Interrupted("before it was done"))) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        with lasting_stderr():
            return self._main(*args, **extra)

    def _main(self, *args: Any, **extra: Any) -> Any:
        with checked_stdout() as stdout:
            try:
                try:
                    return super().main(*args, **extra)
                finally:
                    # Now: at the interpreter's end nobody could say in one line what is wrong.
                    stdout.flush()
            # Of this flush, or of the help, which comes before a command is invoked. No other:
            # under --debug those are to be seen.
            except Unwritable as error:
                raise SystemExit(_say(error)) from error
            except BrokenPipeError as error:
                raise SystemExit(1) from error  # as typer ends where a command finds it


class App(typer.Typer):
    """A group of commands, each a `Command`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": Commands} | options)

    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        return super().command(*args, **{"cls": Command} | options)


def _unforeseen(error: Exception) -> ParadiseError:
    """The message of an exception that nothing turned into one."""
    what = named(error)
    if isinstance(error, MemoryError):
        return ParadiseError(f"not enough memory: {what}; ask for fewer or smaller things at once")
    return ParadiseError(
        f"{what}; this is a fault of PARADISE, please report it: `paradise --debug`, followed by"
        " the same command, shows where"
    )


def _say_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning of some library in one line: whose source it stands in helps no user."""
    print(f"warning: {printable(str(message))}", file=sys.stderr)


def _say(error: ParadiseError) -> int:
    """One message on stderr; returns the exit code."""
    # Mostly all processes find the same: where the main one ends, torchrun ends the others.
    if beside_main():
        time.sleep(_SECONDS_BEHIND)
    # Without rich's markup: a message may hold brackets, and paths of any kind.
    label = "stopped" if isinstance(error, Interrupted) else "error"
    print(f"{label}: {shown(str(error))}", file=sys.stderr)
    return error.exit_code
