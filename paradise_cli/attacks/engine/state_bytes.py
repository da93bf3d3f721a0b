"""The content of a classifier's state as bytes, from which its digest is made."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

PLAIN = (NoneType, bool, int, float, complex, str, bytes, range, slice, Enum)

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_EXACT = 2**24  # whole numbers below are the same as float32


def bytes_of(value: Any, within: tuple[int, ...] = ()) -> Iterator[bytes]:
    """The content of a state: of tensors of any kind, and of what modules keep beside them.

    It is the same in another process. `within` are the ids of what holds the value.
    """
    if isinstance(value, Tensor):
        yield from _of_tensor(value)
    elif id(value) in within:  # it holds itself
        yield f"#{within.index(id(value))}".encode()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _of_key(key)
            yield from bytes_of(inner, (*within, id(value)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from bytes_of(inner, (*within, id(value)))
    elif isinstance(value, set | frozenset):
        # In an order of its own: that of a set is another one in the next process.
        yield from sorted(b"".join(bytes_of(inner)) for inner in value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        objects = value.dtype.hasobject
        inside = (*within, id(value))
        yield from bytes_of(value.tolist(), inside) if objects else [value.tobytes()]
    elif isinstance(value, bytearray):
        yield bytes(value)
    else:
        # Not what it prints: that may hold its address, another one in the next process.
        plain = isinstance(value, (*PLAIN, np.generic))
        yield repr(value).encode() if plain else type(value).__qualname__.encode()


def _of_key(key: Any) -> Iterator[bytes]:
    if isinstance(key, str):
        yield key.encode(errors="backslashreplace")
    else:
        yield from bytes_of(key)


def _of_tensor(value: Tensor) -> Iterator[bytes]:
    value = value.detach().cpu()
    if value.is_nested:
        for each in value.unbind():
            yield str(tuple(each.shape)).encode()
            yield from _of_tensor(each)
    elif is_traceable_wrapper_subclass(value):  # weights that a library packed, as of 4 bits
        names, kept = value.__tensor_flatten__()
        for name in names:
            yield from _of_tensor(getattr(value, name))
        yield from bytes_of(kept)
    else:
        dense = value.dequantize() if value.is_quantized else value.to_dense()
        yield from _of_dense(dense.resolve_conj().resolve_neg())


def _of_dense(value: Tensor) -> Iterator[bytes]:
    """Numbers as float32, and bit by bit those that are no float32."""
    real = torch.view_as_real(value) if value.is_complex() else value
    try:
        floats = real.float().contiguous()
    except NotImplementedError:  # as of whole numbers of 4 bits: torch keeps them, and no more
        exact = False
    else:
        yield floats.numpy().tobytes()
        exact = _is_exact(floats, real)
    if not exact:
        yield real.view(_BITS[real.itemsize]).contiguous().numpy().tobytes()


def _is_exact(floats: Tensor, value: Tensor) -> bool:
    """Whether the float32 numbers are the value itself, rather than rounded."""
    if value.itemsize < 4 or value.dtype == torch.float32:
        return True
    if value.is_floating_point():
        return torch.equal(floats.double(), value)
    return bool((floats.abs() < _EXACT).all())
