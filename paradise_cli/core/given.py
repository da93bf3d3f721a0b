"""What a user of the library gives in Python, as the plain kind that is meant."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, UsageError, named, printable

_FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def plain_array(values: Any, what: str) -> NDArray[Any]:
    """An array, tensor or list as a plain array of numbers or text; it may share their memory.

    Sparse and quantised tensors are written out, other floats become float32. Raises UsageError,
    naming `what`, for what is no such array.
    """
    try:
        if isinstance(values, Tensor):
            return _of_tensor(values)
        # numpy alone would ask tensors for what it lacks, as bfloat16.
        parts = isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values)
        found = np.asarray([plain_array(v, what) for v in values] if parts else values)
        # Whatever lies under a mask would count as if it were there.
        if np.ma.is_masked(values):
            raise ValueError("some of its values are masked")
        if found.dtype == object and not isinstance(values, np.ndarray):
            raise ValueError("numpy makes Python objects of it")
    except ParadiseError:
        raise
    # Numpy, torch and arrays of others fail in a dozen ways.
    except Exception as error:
        why = str(error) if type(error) is ValueError else named(error)
        if "inhomogeneous" in why:
            why = "its parts differ in shape"
        raise UsageError(
            f"{what} of type {type(values).__name__} cannot be read as one array"
            f" ({printable(why)}): give a numpy array or a dense tensor"
        ) from error
    return found


def path_given(value: Any, what: str) -> Path:
    """A path as text or Path; raises UsageError, naming `what`, for anything else."""
    text = text_given(value, what, "a path")
    if not text or "\0" in text:
        raise UsageError(f"{what}: {text!r} is no path: name a file or folder, as 'runs/mine'")
    return Path(os.path.expanduser(text))


def text_given(value: Any, what: str, allowed: str) -> str:
    """Text, or a path as text; raises UsageError, naming `what` and what is allowed, for anything
    else.
    """
    if isinstance(value, str | os.PathLike):
        return os.fsdecode(value)
    raise UsageError(f"{what} must be text ({allowed}), not {printable(repr(value), 40)}")


def _of_tensor(values: Tensor) -> NDArray[Any]:
    if values.is_nested:
        raise ValueError("its parts differ in shape")
    if values.is_meta:
        raise ValueError("on the meta device it holds no values")
    values = values.detach()
    if values.is_quantized:
        values = values.dequantize()
    values = values.to_dense().cpu()
    if values.is_floating_point() and values.dtype not in _FLOATS_OF_NUMPY:
        values = values.float()
    # Signs that are yet to be changed, as of an imaginary part, are no values to numpy.
    found: NDArray[Any] = values.resolve_conj().resolve_neg().numpy()
    return found
