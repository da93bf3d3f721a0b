"""What pydantic finds wrong with a recipe or card, in words, each where it was written."""

import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import close_matches, did_you_mean
from paradise_cli.core.yaml import Document, KeyPath, Problem, dotted, show
from paradise_cli.recipe.components import UNKNOWN, OneOf, Walk, fields

M = TypeVar("M", bound=BaseModel)

LARGEST_NUMBER = 2**63 - 1  # an integer of a tensor; and two such factors are a float32
MOST_TOLD = 20  # mistakes in a message, and
MOST_IN_A_LINE = 3  # in one of a single line
MOST_PLACES = 3  # of a misplaced key that a message names

_MAPPING = "should be a mapping of keys to values"
_PLAIN = {
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "list_type": "should be a list",
    "string_type": "should be text (quote it if it looks like a number)",
    "string_too_short": "should not be empty",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "too_short": "should not be empty",
    "too_long": "has too many entries",
}
_WORDS = {
    "Input should": "should",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


class RecipeError(UsageError):
    """Everything that is wrong with a recipe, a line each, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        # A recipe is mended in one go: one mistake at a time would cost a run each.
        self.problems = sorted(problems)
        super().__init__(in_lines(problems))


def in_lines(problems: list[Problem]) -> str:
    """All that is wrong, a line each, in the order of the file; of very many the first."""
    return "\n".join(_told(sorted(problems), MOST_TOLD))


def in_a_line(problems: list[Problem]) -> str:
    """The first of all that is wrong with a recipe that nobody is about to mend."""
    return "; ".join(_told(sorted(problems), MOST_IN_A_LINE))


def _told(problems: list[Problem], most: int) -> list[str]:
    more = len(problems) - most
    first = [str(problem) for problem in problems[:most]]
    return [*first, f"and {more:,} more"] if more > 0 else first


def check_usable(document: Document) -> None:
    """Complain of numbers that fit into no tensor, and of text that fits into no path."""
    for path, value in _values((), document.data):
        # Infinity is told by the field, which may have a better word for it.
        if isinstance(value, int | float) and LARGEST_NUMBER < abs(value) < math.inf:
            document.complain(path, f"{show(str(value))} is too large a number")
        if isinstance(value, str) and "\0" in value:
            document.complain(path, "U+0000 is not allowed in text")


def _values(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """Everything in a document that holds nothing else, and where it is."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _values((*path, key), inside)


def validate(model: type[M], document: Document) -> M | None:
    """The document's data as `model`; what is wrong is added to the document's problems."""
    try:
        # JSON mode is strict about scalars, yet turns lists into tuples and text into paths.
        return model.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        # By path, since a union reports each of its members there.
        wrong: dict[KeyPath, tuple[list[str], str]] = {}
        # Each of them is looked up in the whole recipe, and a foreign one may have a million.
        for details in error.errors()[: 2 * MOST_TOLD]:
            path, text, got = _explain(model, document, details)
            texts, _ = wrong.setdefault(path, ([], got))
            if text not in texts:
                texts.append(text)
        for path, (texts, got) in wrong.items():
            document.complain(path, " or ".join(texts) + got)
    return None


def _explain(
    model: type[BaseModel], document: Document, error: ErrorDetails
) -> tuple[KeyPath, str, str]:
    """Path, problem, and what was given instead."""
    step = Walk(model, document.data).follow(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return step.path, _unknown_key(step, model, document), ""
    if kind == "missing" and isinstance(step.data, list):
        return step.path, "has too few entries", f" (got {show(step.data)})"
    if kind == "missing":
        return (
            step.path,
            f"required{f' by {_component(step)}' if step.owner_choice else ''}, but missing",
            "",
        )
    if kind == UNKNOWN and step.choice:
        return _unknown_component(step, step.choice)
    if kind == "value_error":
        # Of a whole section, which would fill the line; the text names the values that matter.
        return step.path, error["msg"].removeprefix("Value error, "), ""
    text = _PLAIN.get(kind) or error["msg"]
    # Whole fractions are numbers by now.
    if kind == "float_type" and isinstance(error["input"], str) and "/" in error["input"]:
        text = "should be a number, or a fraction of two such as 8/255, the lower one not 0"
    # What was given alone is most often meant as the only one of a list.
    if kind == "list_type" and isinstance(error["input"], str | int | float):
        text += f" such as [{show(error['input'])}]"
    for pydantic, plain in _WORDS.items():
        text = text.replace(pydantic, plain)
    return step.path, text, f" (got {show(error['input'])})"


def _component(step: Walk) -> str:
    """`backbone 'mlp'`: the component that the last key of the path belongs to."""
    return f"{step.owner_choice.registry.kind} '{step.owner_name}'" if step.owner_choice else ""


def _unknown_component(step: Walk, choice: OneOf) -> tuple[KeyPath, str, str]:
    known = f"known: {', '.join(choice.names)}"
    if not isinstance(step.data, dict) or choice.key not in step.data:
        return step.path, f"lacks its '{choice.key}'; {known}", ""
    name = step.data[choice.key]
    hint = did_you_mean(name, choice.names) if isinstance(name, str) else ""
    text = f"unknown {choice.registry.kind} {show(name)}{hint or ';'} {known}"
    return (*step.path, choice.key), text, ""


def _unknown_key(step: Walk, model: type[BaseModel], document: Document) -> str:
    *parent, key = step.path
    known = list(step.owner.model_fields)
    hint = _misplaced(str(key), known, model, document) or f"; known: {', '.join(known)}"
    if not step.owner_choice:
        return f"unknown key{hint}"
    # Another component was chosen by `--set`, and the old one's keys stayed behind.
    name_key = step.owner_choice.key
    chosen = document.place((*parent, name_key))
    if chosen.source and document.place(step.path).source != chosen.source:
        hint += (
            f"; `{chosen.text}` keeps the other keys: to replace them all, use"
            f" --set '{dotted(tuple(parent))}={{{name_key}: {step.owner_name}}}'"
        )
    return f"unknown hyper-parameter of {_component(step)}{hint}"


def _misplaced(key: str, known: list[str], model: type[BaseModel], document: Document) -> str:
    """`; did you mean 'objective.alpha'?` for `alpha`, or a near word: here, then elsewhere."""
    named: dict[str, list[KeyPath]] = {}
    for path in fields(model, document.data):
        named.setdefault(str(path[-1]), []).append(path)
    if key not in named:
        if here := did_you_mean(key, known):
            return here
        key = next(iter(close_matches(key, named, most=1)), key)
    # A word such as `name`, which many sections have, is no hint.
    places = named.get(key, [])[: MOST_PLACES + 1]
    if not 0 < len(places) <= MOST_PLACES:
        return did_you_mean(key, known)
    return f"; did you mean {' or '.join(repr(dotted(path)) for path in places)}?"
