"""The code behind a classifier, and the plain values beside it: what its weights do not tell."""

import hashlib
import re
import sys
import sysconfig
from argparse import Namespace
from collections.abc import Mapping
from dis import get_instructions
from functools import cache, cached_property, partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.jit import ScriptModule

from paradise_cli.attacks.engine.introspection import ADDRESS, EMPTY, global_names, if_it_works
from paradise_cli.attacks.engine.state_bytes import PLAIN, bytes_of

_CONTENT = (Tensor, np.ndarray, set, frozenset, bytearray)
_PROGRAMS = (GraphModule, ScriptModule)
_KNOWN = ("torch", "torchvision", "numpy", "paradise_cli", *sys.stdlib_module_names)
_DEVICE = re.compile(r"(cpu|cuda)(:[0-9]+)?")
_MOST = 100_000  # parts that are looked at
Named = list[tuple[str, Any]]


def own_code(function: Any) -> dict[str, bytes]:
    """The code of a user's functions and classes behind a function, and all plain values, arrays
    and tensors there but for parameters, each by where it stands; the same in every process.

    Empty where no code is a user's: then the structure and the weights say everything.
    """
    found: dict[str, bytes] = {}
    heavy: dict[str, Any] = {}
    own = False
    # Kept alive: the address of what is gone would soon be that of something else.
    alive: dict[int, Any] = {}
    waiting: list[tuple[str, Any]] = [("", function)]
    while waiting and len(found) + len(heavy) < _MOST:
        path, part = waiting.pop()
        if isinstance(part, str) and _DEVICE.fullmatch(part):
            continue  # each of several processes may have another
        if isinstance(part, (*PLAIN, np.generic, torch.dtype)):
            found[path] = ADDRESS.sub("", repr(part)).encode(errors="backslashreplace")
        elif isinstance(part, _CONTENT):
            if not isinstance(part, nn.Parameter):
                heavy[path] = part
        elif id(part) not in alive:
            alive[id(part)] = part
            code = if_it_works(partial(_code_of, part))
            own = own or code is not None
            named = part if isinstance(part, FunctionType | type) else type(part)
            found[path] = code or named.__qualname__.encode()
            inside = if_it_works(partial(_inside, part)) or []
            waiting += [(f"{path}/{name}", held) for name, held in inside]
    if not own:
        return {}
    contents = {path: if_it_works(partial(_content, held)) for path, held in heavy.items()}
    return found | {path: content for path, content in contents.items() if content is not None}


def code_digest(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str | None:
    """A digest of two looks by `own_code` with calls between them; None where there is no code.

    What the calls have changed, such as a counter, is no part of what the function is.
    """
    digest = hashlib.sha256()
    for path, content in sorted(before.items() & after.items()):
        digest.update(path.encode(errors="backslashreplace") + b"\0" + content + b"\0")
    return digest.hexdigest()[:16] if before else None


def _content(part: Any) -> bytes:
    digest = hashlib.sha256()
    for some in bytes_of(part):
        digest.update(some)
    return digest.digest()


def _code_of(part: Any) -> bytes | None:
    """The code of a user's function or class, or of a program; None for anything else."""
    if isinstance(part, _PROGRAMS):
        return str(part.code).encode()
    if isinstance(part, FunctionType) and not _is_known(_home(part)):
        return _instructions(part.__code__)
    if isinstance(part, type) and not _is_known(part.__module__):
        return part.__qualname__.encode()
    return None


def _instructions(code: CodeType) -> bytes:
    """What the code does, without names of files, numbers of lines and what describes it."""
    done: list[bytes] = []
    for each in get_instructions(code):
        inner = isinstance(each.argval, CodeType)
        # A docstring is loaded by nothing; a set of constants has another order in each process.
        given = [_instructions(each.argval)] if inner else bytes_of(each.argval)
        done += [each.opname.encode(), *given]
    return b"\n".join(done)


def _inside(part: Any) -> Named:
    """What a part holds, by name."""
    if isinstance(part, dict):
        # Other keys may be counted over all of the process, as those of hooks are.
        return [
            (key if isinstance(key, str) else str(number), held)
            for number, (key, held) in enumerate(part.items())
        ]
    if isinstance(part, list | tuple):
        return [(str(number), held) for number, held in enumerate(part)]
    if isinstance(part, partial):
        return [("func", part.func), ("args", part.args), ("keywords", part.keywords)]
    if isinstance(part, MethodType):
        return [("self", part.__self__), ("func", part.__func__)]
    if isinstance(part, BuiltinFunctionType):  # as `apply` of a function with its own gradient
        owner = part.__self__
        return [] if owner is None or isinstance(owner, ModuleType) else [("self", owner)]
    if isinstance(part, FunctionType):
        return _of_function(part)
    if isinstance(part, type):
        return _of_class(part)
    if isinstance(part, _PROGRAMS):
        return [*part.named_children()]
    return _of_object(part)


def _of_function(part: FunctionType) -> Named:
    cells = zip(part.__code__.co_freevars, part.__closure__ or (), strict=True)
    filled = [(name, cell.cell_contents) for name, cell in cells if cell != EMPTY]
    given = [("defaults", part.__defaults__), ("kwdefaults", part.__kwdefaults__)]
    if _is_known(_home(part)):
        return filled  # a decorator's wrapper, which closes over the function
    beside = [*filled, *given, *vars(part).items()]
    # What a library keeps in its globals is no classifier.
    if _is_installed(_home(part)):
        return beside
    used = _attributes_in(part.__code__)
    names = global_names(part.__code__)
    there = [(name, part.__globals__[name]) for name in names if name in part.__globals__]
    return [*beside, *_through_modules(there, used)]


def _through_modules(held: Named, used: set[str]) -> Named:
    """In place of a user's module what may be used of it, and nothing of other modules."""
    found: Named = []
    for name, each in held:
        if not isinstance(each, ModuleType):
            found.append((name, each))
        elif not (_is_known(each.__name__) or _is_installed(each.__name__)):
            inner = ((f"{name}.{key}", vars(each)[key]) for key in sorted(used & vars(each).keys()))
            found += [(key, one) for key, one in inner if not isinstance(one, ModuleType)]
    return found


def _attributes_in(code: CodeType) -> set[str]:
    """Names of globals and attributes, also within comprehensions and inner functions."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return {*code.co_names}.union(*map(_attributes_in, inner))


def _of_class(kind: type) -> Named:
    """What a class and those it is made from define."""
    found: Named = []
    for each in kind.__mro__:
        if _is_known(each.__module__):
            continue
        for name, held in vars(each).items():
            if isinstance(held, staticmethod | classmethod):
                held = held.__func__
            elif isinstance(held, property | cached_property):
                held = held.fget if isinstance(held, property) else held.func
            if isinstance(held, FunctionType) or not name.startswith("__"):
                found.append((f"{each.__qualname__}.{name}", held))
    return found


def _of_object(part: Any) -> Named:
    held = getattr(part, "__dict__", {})
    top = type(part).__module__.partition(".")[0]
    if _is_known(top) and top not in ("torchvision", "paradise_cli"):
        # What torch and the standard library note for themselves may differ between processes.
        plain = isinstance(part, (nn.Module, Namespace, SimpleNamespace))
        held = {
            name: each
            for name, each in held.items()
            if name == "__wrapped__" or (plain and not (name[0] == "_" and isinstance(each, PLAIN)))
        }
    return [*held.items(), ("class", type(part))]


def _home(part: FunctionType) -> str:
    """The module that a function was written in: a decorator may have given it another name."""
    return str(part.__globals__.get("__name__"))


def _is_known(module: str) -> bool:
    """Whether it is of what every classifier stands on, and nobody changes for one of them."""
    return module.partition(".")[0] in _KNOWN


@cache
def _is_installed(module: str) -> bool:
    """Whether it is of a library."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return False
    libraries = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    among = any(Path(file).is_relative_to(folder) for folder in libraries)
    return among or not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)
