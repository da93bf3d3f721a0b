"""Whole tasks side by side on the cores of a CPU, instead of one task split over them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Torch takes one core in this thread and in those that start meanwhile."""
    # Tasks that each take all cores wait for each other; as many tasks as cores do not.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
