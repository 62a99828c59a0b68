"""Types and values in plain English: what an option must be, and what was given."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ithaca.runtime.config.provenance import printable
from ithaca.runtime.config.scalar import resolve
from ithaca.runtime.config.units import Unit, format_seconds, format_size, parse_seconds

_PLAIN = re.compile(r"[A-Za-z0-9_./~+]([A-Za-z0-9_./~+:-]*[A-Za-z0-9_./~+-])?")
_NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
}


def describe(field: FieldInfo) -> str:
    """What the value of ``field`` must be, such as ``a whole number from 1 to 1024, or auto``."""
    return phrase(field.annotation, field.metadata)


def phrase(annotation: object, metadata: Sequence[Any] = (), *, plural: bool = False) -> str:
    """What a value of the type ``annotation`` must be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, own = _strip(annotation, metadata)
        return phrase(inner, own, plural=plural)
    unit = next((item for item in metadata if isinstance(item, Unit)), None)
    if unit:
        return unit.phrase
    if origin in (Union, types.UnionType):
        return _any_of([phrase(part, metadata) for part in get_args(annotation)])
    if origin is Literal:
        return _any_of([show_choice(choice) for choice in get_args(annotation)])
    if origin in (tuple, list, set, frozenset):
        return _list_phrase(get_args(annotation), plural)
    if isinstance(annotation, type):
        return _class_phrase(annotation, metadata, plural)
    return "a value of another type"


def choices(annotation: Any) -> list[str]:  # noqa: ANN401 - any type
    """The words that a value may be, if it is one of some words."""
    origin = get_origin(annotation)
    if origin is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if origin in (Union, types.UnionType, Annotated):
        return [word for part in get_args(annotation) for word in choices(part)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return []


def show(value: object) -> str:
    """What was given, cut to a readable length."""
    match value:
        case None:
            return "nothing (null)"
        case dict():
            keys = ", ".join(printable(str(key)) for key in value) or "no keys"
            return f"a section with {_cut(keys)}"
        case str():
            return _cut(repr(value), 80)
        case list() | tuple():
            return f"the list {_cut(json.dumps(value))}"
        case _:
            return _cut(json.dumps(value))


def show_default(value: object) -> str:
    """A value as it is written in a file, such as ``[0.9, 0.95]``, ``cosine`` or ``null``."""
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"))
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and resolve(value, plain=True)[0] == value
        return value if plain else json.dumps(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return json.dumps(value, default=str)


def show_value(field: FieldInfo | None, value: object) -> str:
    """A validated value as it is written in a file, with its unit if it has one."""
    unit = next((m for m in field.metadata if isinstance(m, Unit)), None) if field else None
    if field and not unit:
        parts = [m for part in get_args(field.annotation) for m in get_args(part)]
        unit = next((m for m in parts if isinstance(m, Unit)), None)
    if unit and isinstance(value, int | float):
        return format_seconds(value) if "duration" in unit.phrase else format_size(int(value))
    return show_default(value)


def field_at(model: type[BaseModel], path: Sequence[str | int]) -> FieldInfo | None:
    """The option at ``path``, or None; list positions are passed over."""
    field: FieldInfo | None = None
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if here is None or part not in here.model_fields:
            return None
        field = here.model_fields[part]
        here = section_of(field.annotation)
    return field


def entry_phrase(field: FieldInfo, depth: int) -> str:
    """What an entry of a list must be, ``depth`` lists down."""
    annotation, metadata = _strip(field.annotation, field.metadata)
    for _ in range(depth):
        parts = _alternatives(annotation)
        inside = next((p for p in parts if get_origin(p) in (tuple, list)), None)
        if inside is None:
            return phrase(annotation, metadata)
        annotation, metadata = _strip(get_args(inside)[0], [])
    return phrase(annotation, metadata)


def section_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any type
    """The model that ``annotation`` is, or may be, if it is one."""
    for part in _alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def hint(field: FieldInfo, value: object) -> str:
    """What the user may have meant by ``value``, as the end of a sentence, or no text."""
    types_ = {_strip(part, [])[0] for part in _alternatives(field.annotation)}
    if bool in types_ and isinstance(value, str):
        meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false"}
        word = meant.get(value.lower())
        return f"; write {word}" if word else ""
    if types_ & {int, float} and isinstance(value, str):
        plain = value.strip().replace("_", "").replace(",", "")
        if _is_number(plain):
            return f"; write {plain}, without quotes"
        return _without_unit(value)
    if int in types_ and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if str in types_ and isinstance(value, int | float):
        return "; put it in quotes"
    return ""


def _without_unit(value: str) -> str:
    try:
        parse_seconds(value)
    except ValueError:
        return ""
    return "; this option has no unit"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()


def _alternatives(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any type
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(p for part in get_args(annotation) for p in _alternatives(part))
    return (annotation,)


def _strip(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:  # noqa: ANN401
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        fields = [m for item in own if isinstance(item, FieldInfo) for m in item.metadata]
        return inner, [*metadata, *own, *fields]
    return annotation, list(metadata)


def _class_phrase(cls: type[Any], metadata: Sequence[Any], plural: bool) -> str:
    if issubclass(cls, BaseModel):
        return f"a section with the keys {', '.join(cls.model_fields)}"
    if issubclass(cls, Enum):
        return _any_of([show_choice(member.value) for member in cls])
    if cls not in _NAMES:
        return "a section of keys and values" if issubclass(cls, dict) else "text"
    return _NAMES[cls][plural] + (_bounds(metadata) if cls in (int, float) else "")


def _list_phrase(entries: tuple[Any, ...], plural: bool) -> str:
    word = "lists" if plural else "a list"
    if not entries:
        return word
    if len(entries) > 1 and entries[1] is not Ellipsis:
        return f"{word} of {len(entries)} {phrase(entries[0], plural=True)}"
    return f"{word} of {phrase(entries[0], plural=True)}"


def _bounds(metadata: Iterable[Any]) -> str:
    low = high = ""
    for item in metadata:
        match item:
            case Ge(ge=bound):
                low = f"from {_bound(bound)}"
            case Gt(gt=bound):
                low = f"above {_bound(bound)}"
            case Le(le=bound):
                high = f"up to {_bound(bound)}"
            case Lt(lt=bound):
                high = f"below {_bound(bound)}"
    if low.startswith("from") and high.startswith("up"):
        return f" {low} to {high.removeprefix('up to ')}"
    if low.startswith("from") and not high:
        return f" of at least {low.removeprefix('from ')}"
    if low.startswith("from") and high:
        return f" {low} to {high}"
    parts = " and ".join(part for part in (low, high) if part)
    return f" {parts}" if parts else ""


def _bound(bound: object) -> str:
    if bound == 2**63:
        return "2^63"
    return f"{bound:,}".replace(",", "") if isinstance(bound, int) else f"{bound:g}"


def _any_of(parts: Sequence[str]) -> str:
    unique = list(dict.fromkeys(parts))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def show_choice(choice: object) -> str:
    """A word that a value may be, as it is written."""
    return "null" if choice is None else str(choice)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
