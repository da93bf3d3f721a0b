"""What lies behind a classifier that is only a function to us: modules, weights, memory, work."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dis import get_instructions
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from paradise_cli.attacks.engine.state_bytes import PLAIN, bytes_of
from paradise_cli.attacks.protocol.foreign import foreign
from paradise_cli.core.errors import ParadiseError

T = TypeVar("T")

EMPTY = CellType()
# What these hold is code, and code keeps nothing.
_CODE = (type, ModuleType, BuiltinFunctionType, np.ufunc, np.dtype)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""What an object that is printed says of its place in memory: another one in the next process."""
_MOST = 100_000  # parts of a classifier; one with more is taken for one that may remember


def modules_of(function: Any) -> list[nn.Module]:
    """The torch modules behind a function, each once, in one order.

    That is itself or its attributes, and through other functions what they use: what they close
    over, globals of their own file, the object they are bound to, what a partial holds.
    """
    modules: list[nn.Module] = []
    seen: set[int] = set()
    waiting: list[Any] = [function, *getattr(function, "__dict__", {}).values()]
    if not isinstance(function, nn.Module):
        waiting.append(type(function).__call__)
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            modules.append(part)
        elif isinstance(part, MethodType):
            owner = part.__self__
            waiting += [owner, *getattr(owner, "__dict__", {}).values(), part.__func__]
        else:
            waiting += _used_by(part)
    return modules


def weights_digest(function: Any) -> str:
    """A digest of the modules behind a function: their layers and every tensor."""
    digest = hashlib.sha256()
    for module in modules_of(function):
        with foreign("when asked for its state_dict"):
            digest.update(_structure(module))
            for name, value in _state_of(module).items():
                with foreign(f"when asked for its state {name!r}"):
                    for part in bytes_of({name: value}):
                        digest.update(part)
    return digest.hexdigest()[:16]


def _state_of(module: nn.Module) -> Mapping[str, Any]:
    """The state_dict of a module, which a class of the user may make in its own way."""
    state: object = module.state_dict()
    if not isinstance(state, Mapping):
        raise ParadiseError(
            f"state_dict() of the classifier returns a {type(state).__name__}: it must return a"
            " mapping of names to tensors, as that of torch does"
        )
    check_values(state.items())
    return state


def check_values(tensors: Iterable[tuple[str, Any]]) -> None:
    """Raise ParadiseError where one of the named tensors has a shape alone, and no values."""
    for name, value in tensors:
        if isinstance(value, FakeTensor) or (isinstance(value, Tensor) and value.is_meta):
            kind = "a FakeTensor" if isinstance(value, FakeTensor) else "on the device meta"
            raise ParadiseError(
                f"{name} of the classifier is {kind} and has no values: load them before you"
                " return the classifier"
            )


def _structure(module: nn.Module) -> bytes:
    """The layers of a module as it prints them."""
    text = if_it_works(lambda: repr(module))
    if text is None:  # a way to print of its own, which fails
        kinds = ((name, type(each).__qualname__) for name, each in module.named_modules())
        text = "\n".join(f"{name}: {kind}" for name, kind in kinds)
    return ADDRESS.sub("", text).encode(errors="backslashreplace")


class Memory:
    """All that a classifier can see and could change, as it is now.

    Two looks with calls between them tell a function that keeps something from one that does not.
    `known` is whether everything behind it could be looked at.
    """

    def __init__(self, function: Any) -> None:
        self.known = True
        self._values: list[Any] = []
        # Kept alive: the address of what is gone would soon be that of something else.
        self._alive: dict[int, Any] = {}
        waiting = [function]
        while waiting and self.known:
            part = waiting.pop()
            if isinstance(part, PLAIN):
                self._values.append(part)
                continue
            self._values.append(id(part))
            if id(part) not in self._alive:
                self._alive[id(part)] = part
                waiting += self._look_into(part)
                self.known &= len(self._alive) <= _MOST

    def same_as(self, other: "Memory") -> bool:
        """Whether nothing changed between the two, as far as can be known."""
        return self.known and other.known and self._values == other._values

    def _look_into(self, part: Any) -> Iterable[Any]:
        """What a part holds; its own content is noted where its address does not tell of it."""
        if isinstance(part, Tensor):
            # A tensor made in inference mode does not count how often it was written into.
            self.known &= not part.is_inference()
            self._values.append(0 if part.is_inference() else part._version)
            return ()
        if isinstance(part, np.ndarray):
            self.known &= not part.dtype.hasobject
            content = b"" if part.dtype.hasobject else np.ascontiguousarray(part).data
            self._values.append(hashlib.sha256(content).digest())
            return ()
        if isinstance(part, dict):
            return [*part, *part.values()]
        if isinstance(part, set | frozenset):
            return sorted(part, key=id)
        if isinstance(part, FunctionType | partial | list | tuple):
            return _used_by(part)
        if isinstance(part, MethodType):
            return [part.__self__, part.__func__]
        if isinstance(part, nn.Module):
            return [vars(part), *_code_of(type(part))]
        if isinstance(part, _CODE) or _is_torchs(type(part).__module__):
            return ()
        self.known &= hasattr(part, "__dict__")  # else it may be a session of another runtime
        return [getattr(part, "__dict__", None), *_code_of(type(part))]


def _code_of(kind: type) -> list[Any]:
    """What a user's classes define: methods, whose globals may change, and class attributes."""
    found = []
    for each in kind.__mro__:
        if each is object or _is_torchs(each.__module__):
            continue
        for name, held in vars(each).items():
            # A static method, a class method and a property each hold their function elsewhere.
            held = getattr(held, "__func__", None) or getattr(held, "fget", None) or held
            data = isinstance(held, (*PLAIN, list, dict, set, Tensor, np.ndarray))
            if isinstance(held, FunctionType) or (data and not name.startswith("__")):
                found.append(held)
    return found


def _is_torchs(module: str) -> bool:
    """Whether it is of a library that keeps nothing between two calls, but in attributes."""
    return module.partition(".")[0] in ("torch", "torchvision", "logging")


def _used_by(part: Any) -> list[Any]:
    """What a function or a partial uses, or a list or tuple holds."""
    if isinstance(part, list | tuple):
        return [*part]
    if isinstance(part, partial):
        return [part.func, *part.args, *part.keywords.values()]
    if not isinstance(part, FunctionType):
        return []
    closed_over = [cell.cell_contents for cell in part.__closure__ or () if cell != EMPTY]
    if _is_torchs(part.__module__ or ""):  # a decorator's wrapper, which closes over the function
        return closed_over
    used = (part.__globals__.get(name) for name in global_names(part.__code__))
    # What a library keeps in its globals is no classifier.
    own = [
        held
        for held in used
        if not isinstance(held, FunctionType) or held.__module__ == part.__module__
    ]
    return closed_over + own


def global_names(code: CodeType) -> list[str]:
    """In the order in which they are used, also within comprehensions and inner functions."""
    names = [used.argval for used in get_instructions(code) if used.opname == "LOAD_GLOBAL"]
    for part in code.co_consts:
        if isinstance(part, CodeType):
            names += global_names(part)
    return [*dict.fromkeys(names)]


def if_it_works(call: Callable[[], T]) -> T | None:
    """What a call gives, or None if it raises: a user's function may raise anything."""
    try:
        return call()
    except Exception:
        return None


def counted(call: Callable[[], T]) -> tuple[T, float]:
    """What a call gives, and the operations that torch did for it: of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter:
        answer = if_it_works(call)
    # Compiled functions may refuse to be watched.
    return (call(), 0.0) if answer is None else (answer, float(counter.get_total_flops()))
