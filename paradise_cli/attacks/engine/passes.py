"""What an attack costs on any machine: images that pass the classifier, forward and back."""

from threading import Lock
from typing import NamedTuple

from torch import Tensor


class Count(NamedTuple):
    """Images put forward through a classifier, and gradients taken back through it."""

    forward: int
    back: int

    def since(self, earlier: "Count") -> "Count":
        """What was added to an earlier count."""
        return Count(self.forward - earlier.forward, self.back - earlier.back)


class Passes:
    """A running count, to which any number of threads add.

    Images that only fill a batch up to its shape count too: they cost as much as the others.
    """

    def __init__(self) -> None:
        self._forward = self._back = 0
        self._lock = Lock()

    def watch(self, answer: Tensor, asks: int = 1) -> None:
        """Count an answer [B, ...] that took so many, and each gradient later taken of it."""
        with self._lock:
            self._forward += asks * len(answer)
        if answer.requires_grad:
            answer.register_hook(self._went_back)  # type: ignore[no-untyped-call]

    def _went_back(self, gradient: Tensor) -> None:
        with self._lock:
            self._back += len(gradient)

    @property
    def count(self) -> Count:
        """So far."""
        with self._lock:
            return Count(self._forward, self._back)
