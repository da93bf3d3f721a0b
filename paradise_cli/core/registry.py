"""Named factories whose keyword-only parameters are their schema."""

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints
from weakref import WeakSet

from paradise_cli.core.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


def close_matches(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known words most like this one, the closest first.

    Capitals are like small letters, and hyphens like underscores: which of them a name has is what
    people forget first.
    """
    spelt: dict[str, str] = {}
    for each in known:
        spelt.setdefault(_plain(each), each)
    # Spelt otherwise, and meant without a doubt.
    if _plain(word) in spelt:
        return [spelt[_plain(word)]]
    return [spelt[each] for each in difflib.get_close_matches(_plain(word), list(spelt), n=most)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or an empty string."""
    close = close_matches(word, known, most=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


_REGISTRIES: WeakSet["Registry[Any]"] = WeakSet()


@contextmanager
def failed_put_back() -> Iterator[None]:
    """Undo what a module has registered where it raises while it is imported."""
    before = {registry: set(registry) for registry in _REGISTRIES}
    try:
        yield
    except BaseException:
        for registry, known in before.items():
            for name in set(registry) - known:
                # A module that was imported on the way is whole, and Python runs it only once.
                if registry[name].__module__ not in sys.modules:
                    del registry._factories[name]
        raise


class Registry(Generic[T]):
    """Factories of one kind of component by name.

    Positional parameters of a factory are given by `build.py`; its keyword-only parameters are the
    hyper-parameters that a recipe may set.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}
        _REGISTRIES.add(self)

    def register(self, factory: Callable[P, T]) -> Callable[P, T]:
        """Add a factory under its function name; raises ValueError for a name already taken."""
        name = factory.__name__
        # In silence the later one would win, and a recipe mean another thing in another process.
        if self._factories.get(name, factory) is not factory:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._factories[name] = factory
        return factory

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self._factories:
            hint = did_you_mean(name, list(self))
            raise UsageError(f"unknown {self.kind} '{name}'{hint}; known: {', '.join(self)}")
        return self._factories[name]

    def __iter__(self) -> Iterator[str]:
        # Sorted: messages and the JSON schema must not depend on the order of imports.
        return iter(sorted(self._factories))

    def __contains__(self, name: str) -> bool:
        return name in self._factories

    def try_out(self, name: str, hyper: Mapping[str, object]) -> None:
        """Make the component where it needs nothing else; raises the UsageError that it raises."""
        factory = self[name]
        kinds = {each.kind for each in inspect.signature(factory).parameters.values()}
        if kinds - {inspect.Parameter.KEYWORD_ONLY}:
            return
        try:
            factory(**hyper)
        except UsageError:
            raise
        # A fault of somebody's own component is told where it is used.
        except Exception:
            return

    def hyper_parameters(self, name: str) -> dict[str, tuple[object, object]]:
        """Type and default (`inspect.Parameter.empty` if required) of each hyper-parameter.

        Raises UsageError for one without a type, and for a type that is not defined.
        """
        factory = self[name]
        try:
            # With the bounds of `Annotated`, which a recipe is checked against.
            hints = get_type_hints(factory, include_extras=True)
        except NameError as error:
            raise UsageError(f"{self.kind} '{name}': type of a setting: {error}") from error
        parameters = inspect.signature(factory).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        if untyped := sorted(found.keys() - hints.keys()):
            raise UsageError(
                f"{self.kind} '{name}': its setting '{untyped[0]}' has no type, which recipes are"
                f" checked by; write `{untyped[0]}: int`, or what it is"
            )
        return {parameter: (hints[parameter], default) for parameter, default in found.items()}
