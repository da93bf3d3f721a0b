"""What the code of others does under our hands: what it raises, and what it sets for all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, named
from paradise_cli.core.user_code import settings_put_back


@contextmanager
def foreign(doing: str, given: Tensor | None = None) -> Iterator[None]:
    """Turn whatever a classifier raises into one ParadiseError, and undo what it sets for torch.

    `doing` says what it was asked for, as "on", and `given` what it was handed.
    """
    try:
        with settings_put_back():
            yield
    except (ParadiseError, torch.OutOfMemoryError):
        raise  # said already; and of memory whoever chose the batch says what to do
    # A script may also end the program, as on a wrong argument of its own.
    except (Exception, SystemExit) as error:
        asked = f"{doing}{_described(given)}"
        raise ParadiseError(f"the classifier fails {asked}: {named(error)}") from error


def _described(given: Tensor | None) -> str:
    if given is None:
        return ""
    kind = str(given.dtype).removeprefix("torch.")
    return f" {kind} images {list(given.shape)} on {given.device}"
