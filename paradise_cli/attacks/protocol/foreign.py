"""What the code of others does under our hands: what it raises, and what it sets for all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, named


@contextmanager
def foreign(doing: str, given: Tensor | None = None) -> Iterator[None]:
    """Turn whatever a classifier raises into one ParadiseError, and undo what it sets for torch.

    `doing` says what it was asked for, as "on", and `given` what it was handed.
    """
    dtype = torch.get_default_dtype()
    try:
        # Gradients that it turns off for good would be off for the attack as well.
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    except (ParadiseError, torch.OutOfMemoryError):
        raise  # said already; and of memory whoever chose the batch says what to do
    # A script may also end the program, as on a wrong argument of its own.
    except (Exception, SystemExit) as error:
        asked = f"{doing}{_described(given)}"
        raise ParadiseError(f"the classifier fails {asked}: {named(error)}") from error
    finally:
        torch.set_default_dtype(dtype)


def _described(given: Tensor | None) -> str:
    if given is None:
        return ""
    kind = str(given.dtype).removeprefix("torch.")
    return f" {kind} images {list(given.shape)} on {given.device}"
