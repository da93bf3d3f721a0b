"""Components of a recipe: pydantic models made from the signatures of registered factories."""

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    create_model,
)
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import number
from paradise_cli.core.registry import Registry
from paradise_cli.core.yaml import KeyPath

UNKNOWN = "unknown_component"  # the kind of a validation error: no component of that name, or none


class Strict(BaseModel):
    """A section of a recipe or card: no unknown keys, no conversions, no NaN, no later changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Written:
    """Annotation of text that has to match a whole pattern; `words` say how it should be."""

    pattern: str
    words: str

    def _require(self, text: str) -> str:
        # pydantic's own message shows the pattern, which few people read.
        if not re.fullmatch(self.pattern, text):
            raise PydanticCustomError("pattern", "{words}", {"words": self.words})
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._require, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"pattern": f"^{self.pattern}$"}


RunName: TypeAlias = Annotated[
    str,
    Written(
        r"[A-Za-z0-9][A-Za-z0-9._-]*",
        "should start with a letter or digit and hold only letters, digits, . _ and -",
    ),
]
HeadName: TypeAlias = Annotated[
    str,
    Written(
        r"[A-Za-z_][A-Za-z0-9_-]*",
        "should start with a letter or _ and hold only letters, digits, _ and -",
    ),
]


class Configured(Strict):
    """A factory's name and hyper-parameters."""

    handed: ClassVar[tuple[str, ...]] = ()  # fields that are the factory's too
    hyper_names: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[dict[str, Registry[Any]]] = {}  # hyper-parameters that list components

    @property
    def hyper(self) -> dict[str, Any]:
        """The factory's keyword arguments, every default filled in and every part made."""
        found = {name: getattr(self, name) for name in self.hyper_names}
        for name, registry in self.parts.items():
            found[name] = [registry[part.name](**part.hyper) for part in found[name]]
        return found


class Component(Configured):
    """A component chosen by `name`."""

    name: str


class OneOf:
    """Annotation that turns a `Configured` field into a choice among a registry's components.

    `key` is the field that names the component, and `but` a component that is no choice. Fields
    that the annotated class declares itself stay as declared there.
    """

    def __init__(self, registry: Registry[Any], key: str = "name", but: str | None = None) -> None:
        self.registry, self.key, self.but = registry, key, but

    @property
    def names(self) -> list[str]:
        """The components to choose from."""
        return [name for name in self.registry if name != self.but]

    def model(self, base: type[BaseModel], name: object) -> type[BaseModel] | None:
        """The pydantic model of one component, or None for an unknown name."""
        known = isinstance(name, str) and name in self.names
        return _component_model(base, self.registry, self.key, str(name)) if known else None

    def __get_pydantic_core_schema__(
        self, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def chosen(value: Any) -> BaseModel:
            if isinstance(value, source):
                return value
            if not isinstance(value, dict):
                raise PydanticCustomError("model_type", "Input should be a mapping")
            model = self.model(source, value.get(self.key))
            if model is None:
                raise PydanticCustomError(UNKNOWN, "Input should name a known component")
            made = model.model_validate_json(json.dumps(value))
            # Numbers that are each in their range may be refused together.
            self.registry.try_out(getattr(made, self.key), getattr(made, "hyper", {}))
            return made

        # The registry is looked into at every validation: a recipe's `imports` may add to it.
        return core_schema.no_info_plain_validator_function(chosen, metadata={"base": source})

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        base = schema["metadata"]["base"]
        mapping = handler(TypeAdapter(self._union(base)).core_schema)
        return {"anyOf": [{"type": "string", "enum": self.names}, mapping]}

    def _union(self, base: type[BaseModel]) -> Any:
        models = tuple(self.model(base, name) for name in self.names)
        if len(models) == 1:
            return models[0]
        union: Any = Union[models]  # noqa: UP007 (a computed union)
        return Annotated[union, Field(discriminator=self.key)]


@cache
def _component_model(
    base: type[BaseModel], registry: Registry[Any], key: str, name: str
) -> type[BaseModel]:
    """The pydantic model of one component: its factory's signature is its schema."""
    own: dict[str, Any] = {key: (Literal[name], ...)}
    hyper = registry.hyper_parameters(name)
    parts: dict[str, Registry[Any]] = {}
    for parameter, (kind, default) in hyper.items():
        notes = get_args(kind)[1:]
        nested = next((note for note in notes if isinstance(note, Registry)), None)
        if nested is not None:
            parts[parameter] = nested
            # Not of its own kind: its schema would hold itself, without end.
            kind = Annotated[list[Annotated[Component, OneOf(nested, but=name)]], *notes]
        # What the section declares itself, as `lr`, keeps the bounds declared there.
        if parameter not in getattr(base, "handed", ()):
            _require_free(base, f"{registry.kind} '{name}'", parameter)
            own[parameter] = (kind, ... if default is inspect.Parameter.empty else default)
    title = f"{registry.kind}_{name}".replace(" ", "_")
    paragraphs = (inspect.getdoc(registry[name]) or title).split("\n\n")
    # Where a docstring's lines break is no part of the schema.
    document = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    try:
        model: type[BaseModel] = create_model(title, __base__=base, __doc__=document, **own)
    except PydanticSchemaGenerationError as error:
        said = str(error).split(". Set ")[0]
        raise UsageError(f"{registry.kind} '{name}': type of a setting: {said}") from error
    model.hyper_names = tuple(hyper)  # type: ignore[attr-defined]
    model.parts = parts  # type: ignore[attr-defined]
    return model


def _require_free(base: type[BaseModel], component: str, parameter: str) -> None:
    """Raise UsageError for a setting whose name the section of a recipe needs for itself."""
    if parameter.startswith("_") or parameter in base.model_fields or hasattr(base, parameter):
        raise UsageError(
            f"{component}: a setting cannot be called '{parameter}', as recipes have that name"
            " already or keep it back: choose another"
        )


def unwrap(kind: Any) -> tuple[Any, OneOf | None]:
    """An annotation without `Annotated` and `None`, and the choice it carried."""
    choice: OneOf | None = None
    while True:
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            choice = next((note for note in notes if isinstance(note, OneOf)), choice)
            continue
        options = [option for option in get_args(kind) if option is not type(None)]
        if len(options) == 1 and type(None) in get_args(kind):
            kind = options[0]
            continue
        return kind, choice


def expand(kind: Any, value: Any) -> Any:
    """The value with what people write in short spelt out.

    A component's name alone becomes a mapping, and a fraction such as 8/255 a number.
    """
    kind, choice = unwrap(kind)
    if kind is float and isinstance(value, str):
        return _number(value)
    if choice:
        if isinstance(value, str):
            value = {choice.key: value}
        # Of an unknown component only the section's own fields are known.
        if isinstance(value, dict):
            kind = choice.model(kind, value.get(choice.key)) or kind
    if isinstance(value, list) and _holds(kind, Collection):
        return [expand(_kind_of_item(kind, index), item) for index, item in enumerate(value)]
    if isinstance(value, dict) and _holds(kind, Mapping):
        return {key: expand(get_args(kind)[-1], item) for key, item in value.items()}
    if isinstance(value, dict) and _is_model(kind):
        kinds = {key: field.rebuild_annotation() for key, field in kind.model_fields.items()}
        return {
            key: expand(kinds[key], item) if key in kinds else item for key, item in value.items()
        }
    return value


def _kind_of_item(kind: Any, index: int) -> Any:
    """The annotation of an item of a collection; None behind the last one of a tuple."""
    kinds = get_args(kind)
    if get_origin(kind) is tuple and ... not in kinds:
        return kinds[index] if index < len(kinds) else None
    return kinds[0]


def _holds(kind: Any, collection: type) -> bool:
    """Whether an annotation such as list[float] is of a class of collections."""
    origin = get_origin(kind)
    return inspect.isclass(origin) and issubclass(origin, collection)


def _number(text: str) -> float | str:
    """The number that a fraction is; other text as it is, for the schema to refuse."""
    try:
        # Only fractions: a quoted number is text in YAML, and most often a mistake.
        return number(text, "") if "/" in text else text
    except UsageError:
        return text


def fields(kind: Any, value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every field that a value of this kind has or may be given."""
    kind, choice = unwrap(kind)
    if choice and isinstance(value, dict):
        kind = choice.model(kind, value.get(choice.key)) or kind
    if get_origin(kind) is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from fields(get_args(kind)[0], item, (*path, index))
    elif _is_model(kind):
        inside = value if isinstance(value, dict) else {}
        for key, field in kind.model_fields.items():
            yield (*path, key)
            yield from fields(field.rebuild_annotation(), inside.get(key), (*path, key))


class Walk:
    """A walk along a pydantic error location: what stands there, and which section owns it."""

    def __init__(self, top: type[BaseModel], data: Any) -> None:
        self.path: KeyPath = ()
        self.owner: type[BaseModel] = top  # the section or component that the last key belongs to
        self.owner_choice: OneOf | None = None  # the choice that the owner was taken from, if any
        self.owner_name: object = None  # and the name that was chosen
        self._arrive(top, data)

    def _arrive(self, kind: Any, data: Any) -> None:
        self.data = data
        self.kind, self.choice = unwrap(kind)
        if self.choice and isinstance(data, dict):
            self.kind = self.choice.model(self.kind, data.get(self.choice.key)) or self.kind

    def follow(self, location: KeyPath) -> "Walk":
        """Walk as far as the location names keys and indexes of what is written."""
        for part in location:
            if isinstance(self.data, list) and isinstance(part, int):
                if part >= len(self.data):
                    break  # what is missing at the end of a list is told of the list
                self._arrive((get_args(self.kind) or (None,))[0], self.data[part])
                self.path = (*self.path, part)
            elif isinstance(self.data, dict) and isinstance(part, str) and _is_model(self.kind):
                self.owner = self.kind
                self.owner_choice = self.choice
                self.owner_name = self.data.get(self.choice.key) if self.choice else None
                field = self.kind.model_fields.get(part)
                self._arrive(field.rebuild_annotation() if field else None, self.data.get(part))
                self.path = (*self.path, part)
            elif isinstance(self.data, dict) and get_origin(self.kind) is dict:
                self._arrive(get_args(self.kind)[1], self.data.get(part))
                self.path = (*self.path, part)
            else:
                break  # pydantic goes on with the names of a union's members, which are no keys
        return self


def _is_model(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)
