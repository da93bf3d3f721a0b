"""Mistakes a user can mend: shown as one message, never as a traceback."""


class ParadiseError(ValueError):
    """What is wrong, where, what is allowed and what to do, in one message."""

    exit_code = 1


class UsageError(ParadiseError):
    """A command or recipe that cannot be run as written."""

    exit_code = 2


class Interrupted(ParadiseError):
    """Stopped by a signal, with everything saved."""

    exit_code = 130  # what a shell reports of a program that Ctrl-C ended
