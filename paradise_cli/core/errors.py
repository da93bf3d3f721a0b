"""Mistakes a user can mend: shown as one message, never as a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_LINE = 2000  # characters of one that is shown; paths, of at most 4,095, are rarely longer


class ParadiseError(ValueError):
    """What is wrong, where, what is allowed and what to do, in one message."""

    exit_code = 1


class UsageError(ParadiseError):
    """A command or recipe that cannot be run as written."""

    exit_code = 2


class NoFolder(ParadiseError):
    """Nobody says in which folder the images lie."""


class Refused(UsageError):
    """What a component of a recipe refuses, by its key."""


class Interrupted(ParadiseError):
    """Stopped by a signal, with everything saved."""

    exit_code = 130  # what a shell reports of a program that Ctrl-C ended


class Requeued(Interrupted):
    """Stopped by a scheduler's signal, with work left for the same command."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: schedulers can be told to start it again


@contextmanager
def component(key: str) -> Iterator[None]:
    """What is refused within is refused by the component at this key of the recipe."""
    try:
        yield
    except UsageError as error:
        raise Refused(f"{key}: {error}") from error


def shown(text: str) -> str:
    """A message of ours as it leaves: line by line as `printable`, the middle of an endless line
    left out.
    """
    half = LONGEST_LINE // 2 - 2
    # The end says what to do; what somebody else made endless stands between.
    lines = (
        line if len(line) <= LONGEST_LINE else f"{line[:half]}...{line[-half:]}"
        for line in text.split("\n")
    )
    return "\n".join(printable(line, LONGEST_LINE) for line in lines)


def named(error: BaseException) -> str:
    """An exception on one line, its kind and what it says: `KeyError: 'mu'`."""
    try:
        said = printable(" ".join(str(error).split()))
    except Exception:  # one of the user's own, which cannot say what it is
        said = ""
    return f"{type(error).__name__}: {said}".removesuffix(": ")


def as_utf8(text: str) -> str:
    """Text in which bytes that are no UTF-8, as a file name may have, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, most: int = 300) -> str:
    """Text from elsewhere on one line of at most so many characters, nothing in it a command to a
    terminal.
    """
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    # Halves of surrogate pairs, too, which cannot be printed at all.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
