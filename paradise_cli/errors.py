"""The errors that a program using this package may catch."""

from paradise_cli.core.errors import ParadiseError as ParadiseError
from paradise_cli.core.errors import UsageError as UsageError

__all__ = ["ParadiseError", "UsageError"]
