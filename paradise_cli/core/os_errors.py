"""Errors of the operating system that a library hides in the text of its own."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError


@contextmanager
def unhidden() -> Iterator[None]:
    """Raise OSError, with its number where the text has one, in place of a SafetensorError."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        code = int(number[1])
        raise OSError(code, os.strerror(code)) from error
