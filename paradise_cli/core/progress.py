"""How far work is that a library function does on the way, for whoever shows it."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

Shown: TypeAlias = Callable[[str, int, int], None]
"""Called as (what is done, how much of it, how much in all)."""

shown_work: ContextVar[Shown | None] = ContextVar("shown_work", default=None)
"""Who shows work that happens once, such as decoding a folder; None: nobody."""


def tell(what: str, done: int, total: int, every: int = 1) -> None:
    """Tell whoever shows it, of every so many and of the last."""
    show = shown_work.get()
    if show is not None and (done % every == 0 or done == total):
        show(what, done, total)
