"""Code of the user that runs in our process, such as the module of a classifier."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings_put_back() -> Iterator[None]:
    """Undo what code of the user sets for the whole process, also where it raises.

    Ours runs on in the same process: it would look for files in another folder, compute in another
    type or on another device, and fail where nobody looks for the reason.
    """
    limit, folder = sys.getrecursionlimit(), _current_folder()
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    device, mask = torch.get_default_device(), os.umask(0)
    os.umask(mask)  # to read it is to set it
    try:
        yield
    finally:
        # First, as the rest makes calls. A higher one stays: a deep classifier may need it later.
        sys.setrecursionlimit(max(limit, sys.getrecursionlimit()))
        os.umask(mask)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            # The CPU is the default of torch itself, and None is the way back to that.
            torch.set_default_device(None if device.type == "cpu" else device)
        if folder is not None and _current_folder() != folder:
            os.chdir(folder)


def _current_folder() -> str | None:
    """The current folder, None where somebody removed it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
