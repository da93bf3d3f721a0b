"""YAML 1.2 text with the line and column of every key, and `--set` overrides on top of it."""

import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import yaml

from paradise_cli.core.errors import UsageError, printable

KeyPath = tuple[str | int, ...]

LONGEST = 200_000
"""Characters of a text: more than that is no recipe and no card, and would take minutes."""
MOST_VALUES = 30_000
"""Keys and values of a text, which are composed one by one, each in a tenth of a millisecond."""
LARGEST_INTEGER = 2**1024
"""As of floats; Python itself refuses to write out much larger ones."""
LONGEST_OVERRIDE = 100
"""Characters of a `--set` that a message repeats."""

_TAG = "tag:yaml.org,2002:"
_INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# The core schema of YAML 1.2: `1e-3` is a float, `010` is ten, `on` and dates are strings. PyYAML
# reads 1.1, in which they are text, eight, true and dates.
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (_INT, list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
}


class Loader(yaml.SafeLoader):
    """A composer with the scalars of YAML 1.2 and without aliases."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # One value at two places has two lines, and a few aliases of aliases fill the memory.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases are not allowed; write the value out", problem_mark=mark
            )
        self.composed += 1
        if self.composed > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES:,} keys and values")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes the strings that `Loader` would read as something else."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


def _represent_str(dumper: _Dumper, text: str) -> yaml.Node:
    # A single-quoted U+0085 or U+2028 is folded to a space by the reader; double quotes escape it.
    style = None if text.splitlines() in ([], [text]) else '"'
    return dumper.represent_scalar(_TAG + "str", text, style)


_Dumper.add_representer(str, _represent_str)
for _name, (_pattern, _first) in _SCALARS.items():
    for _side in (Loader, _Dumper):
        _side.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: line and column from 1 in a file, or the n-th `--set`."""

    source: int  # 0 the file, n the n-th override
    line: int
    column: int
    text: str = field(compare=False)


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake; its line is `place: key.path: problem`."""

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        parts = (self.place.text, printable(self.path), self.text)
        return ": ".join(part for part in parts if part)


@dataclass
class Document:
    """A parsed recipe file: plain values, the place of every key, and the problems found so far."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: KeyPath) -> Place:
        """Place of a key, or of its nearest parent that is written somewhere."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(0, 1, 1, f"{self.source}:1:1"))

    def complain(self, path: KeyPath, text: str, place: Place | None = None) -> None:
        """Record a problem; it is reported with all others."""
        self.problems.append(Problem(place or self.place(path), dotted(path), text))

    def override(self, number: int, text: str) -> None:
        """Apply the n-th `--set a.b.0.c=value`; mistakes in its syntax are recorded as problems."""
        named = f"--set {printable(text, LONGEST_OVERRIDE)}"
        place = Place(number, 0, 0, named)
        key, equals, raw = text.partition("=")
        path: KeyPath = tuple(key.strip().split("."))
        if not equals or not all(path):
            self.complain((), "expected key.path=value, as in train.epochs=3", place)
            return
        value = parse(raw, named, number)
        if not value.problems and _has_comment(raw):
            value.complain((), "`#` begins a comment in YAML, which a value has none of: quote it")
        if value.problems:
            for problem in value.problems:
                self.complain((*path, problem.path) if problem.path else path, problem.text, place)
            return
        parent: Any = self.data
        # A section that is missing on the way is added, as if the file had it empty.
        for depth, part in enumerate(path):
            here = path[:depth]
            if isinstance(parent, list):
                # As text: of thousands of digits Python makes no number.
                if str(part) not in map(str, range(len(parent))):
                    known = f"0 to {len(parent) - 1}" if parent else "none, it is empty"
                    self.complain(
                        here, f"is a list; {show(part)} is not one of its indexes ({known})", place
                    )
                    return
                part = int(part)
                path = (*here, part, *path[depth + 1 :])
            elif not isinstance(parent, dict):
                self.complain(here, f"is {show(parent)}; it has no {show(part)} inside", place)
                return
            if depth == len(path) - 1:
                self._replace(parent, path, value.data["value"], place)
            elif isinstance(parent, dict) and parent.get(part) is None:
                self._replace(parent, path[: depth + 1], {}, place)
            parent = parent[part]

    def _replace(self, parent: Any, path: KeyPath, value: Any, place: Place) -> None:
        # What was inside the old value is written nowhere any more.
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        parent[path[-1]] = value
        self.places[path] = place


def overrides_given(value: Any) -> Sequence[str]:
    """Texts as for `--set`: a list of them, one alone, or None; raises UsageError for others."""
    # Of one text each character would be taken for an override.
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
        return texts
    raise UsageError(
        "overrides must be a list of texts such as ['train.epochs=3'], not"
        f" {printable(repr(value), 40)}"
    )


def dotted(path: KeyPath) -> str:
    """`objective.tasks.0.weight` for a path of keys and indexes."""
    return ".".join(str(part) for part in path)


def show(value: Any, width: int = 60) -> str:
    """A value as it might be written, cut to a width."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= width else text[: width - 3] + "..."


def _has_comment(text: str) -> bool:
    """Whether a text that can be parsed has a `#` that belongs to no value."""
    tokens = yaml.scan(text)
    values = [t for t in tokens if isinstance(t, yaml.ScalarToken | yaml.TagToken)]
    inside = {at for t in values for at in range(t.start_mark.index, t.end_mark.index)}
    return any(character == "#" and at not in inside for at, character in enumerate(text))


def parse(text: str, source: str, override: int = 0) -> Document:
    """Parse a recipe's text, or with `override` the value of that `--set` into `data["value"]`."""
    document = Document(source)
    if len(text) > LONGEST:
        document.complain((), f"has {len(text):,} characters; at most {LONGEST:,} are allowed")
        return document
    builder = _Builder(document, override)
    try:
        loader = Loader(text)
        # The tree of nodes, not the values: only nodes know their line and column.
        node = loader.get_single_node()
        if override:
            document.data = {"value": None if node is None else builder.value(node, ())}
        elif isinstance(node, yaml.MappingNode):
            document.data = builder.value(node, ())
        else:
            what = "is empty" if node is None else "is not a mapping"
            document.complain((), f"{what}; expected lines such as `name: value`")
    except yaml.MarkedYAMLError as error:
        document.complain(
            (), _sentence(error), builder.place(error.problem_mark or error.context_mark)
        )
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        place = Place(override, line, column, source if override else f"{source}:{line}:{column}")
        document.complain(
            (), f"character U+{ord(text[error.position]):04X} is not allowed in YAML", place
        )
    # A thousand open brackets are a mistake of the file, no fault of ours.
    except RecursionError:
        document.complain((), "is nested too deeply")
    return document


def _sentence(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    # Only the parser's own errors have a context; ours are sentences already.
    if error.context:
        return "not valid YAML: " + printable(", ".join(parts))
    return error.problem or "not valid YAML"


def dump(data: dict[str, Any]) -> str:
    """YAML text that `parse` reads back as the same values."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


@dataclass
class _Builder:
    document: Document
    override: int

    def place(self, mark: yaml.Mark | None) -> Place:
        if self.override or mark is None:
            return Place(self.override, 0, 0, self.document.source)
        line, column = mark.line + 1, mark.column + 1
        return Place(0, line, column, f"{self.document.source}:{line}:{column}")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        return self._refuse(node, f"tag {show(node.tag)} is not allowed")

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.places[path] = self.place(node.start_mark)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Hashable = (
                self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            )
            place = self.place(key_node.start_mark)
            # A problem is recorded and the rest read on, so that one message has them all.
            if not isinstance(key, str):
                self.document.complain(path, "keys must be plain words", place)
                continue
            if key in result:
                first = self.document.places[(*path, key)].line
                where = f" (first in line {first})" if first else ""
                self.document.complain((*path, key), f"duplicate key '{key}'{where}", place)
                continue
            self.document.places[(*path, key)] = place
            result[key] = self.value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        try:
            match node.tag.removeprefix(_TAG):
                case "str":
                    text.encode()  # refuses halves of surrogate pairs, which no file can hold
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
                    if abs(value) > LARGEST_INTEGER:
                        self._refuse(node, f"{show(text)} is too large a number")
                    return value
                case "float":
                    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except (ValueError, KeyError):
            self._refuse(node, f"{show(text)} is not of type {node.tag.removeprefix(_TAG)}")
        self._refuse(node, f"tag {show(node.tag)} is not allowed")

    def _refuse(self, node: yaml.Node, text: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
