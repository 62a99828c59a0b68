"""Validation errors, one plain sentence for each wrong key or value.

pydantic reports one error for every alternative of a type and speaks of its own machinery. Here
the alternatives of one value become one sentence, made from the type of the option.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from ithaca.runtime.config.describe import (
    choices,
    describe,
    entry_phrase,
    field_at,
    hint,
    section_of,
    show,
    show_default,
)
from ithaca.runtime.config.provenance import Key, dotted, undotted
from ithaca.runtime.config.section import BadValue

_LONGEST = 400
_OURS = {"value_error", "assertion_error"}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with ``key``; ``at_key`` when the key itself is, not its value."""

    key: Key
    text: str
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """A model and where it stands in the job.

    Attributes:
        model: what was validated.
        prefix: where it stands: ``("workload",)`` for the options of a plug-in.
        data: what it was validated from, plain data.
        elsewhere: dotted keys of the rest of the job, for suggestions.
        also_valid: keys beside the fields of the model, such as ``use``.
    """

    model: type[BaseModel]
    prefix: Key
    data: Any
    elsewhere: Sequence[str] = ()
    also_valid: Sequence[str] = ()


def explain(error: ValidationError, scope: Scope) -> list[Complaint]:
    """The complaints that ``error`` stands for, each key once."""
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    tagged: set[Key] = set()
    for item in error.errors(include_url=False):
        path = _real_path(item["loc"], scope.data, item["type"])
        groups.setdefault(path, []).append(item)
        if len(path) < len(item["loc"]):
            tagged.add(path)
    inner = [path for path in groups if not (path in tagged and _has_inner(path, groups))]
    return [_complaint(path, groups[path], scope) for path in inner]


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that ``model`` knows, dotted, sections and options."""
    for name, field in model.model_fields.items():
        yield prefix + name
        section = section_of(field.annotation)
        if section is not None:
            yield from known_keys(section, f"{prefix}{name}.")


def _has_inner(path: Key, groups: Mapping[Key, Any]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in groups)


def _real_path(loc: tuple[int | str, ...], data: Any, kind: str) -> Key:  # noqa: ANN401
    """``loc`` without the names of alternatives, which are no keys of the file."""
    path: list[int | str] = []
    here = data
    for index, part in enumerate(loc):
        match here:
            case dict() if part in here:
                here = here[part]
            case list() if isinstance(part, int) and part < len(here):
                here = here[part]
            case _ if kind != "missing" or index < len(loc) - 1:
                continue
        path.append(part)
    return tuple(path)


def _complaint(path: Key, errors: Sequence[Mapping[str, Any]], scope: Scope) -> Complaint:
    kinds = {error["type"] for error in errors}
    key = scope.prefix + path
    name = dotted(key)
    ours = next((error for error in errors if error["type"] in _OURS), None)
    if "missing" in kinds and isinstance(path[-1], int):
        return _complaint(path[:-1], [{**errors[0], "type": "too_short"}], scope)
    if "extra_forbidden" in kinds:
        return Complaint(key, f"{name}: {_unknown(path, scope)}", at_key=True)
    if "missing" in kinds:
        return Complaint(key[:-1], f"{name}: is missing; {_needed(path, scope)}", at_key=True)
    if ours is not None:
        return _own(ours, key, scope)
    return Complaint(key, f"{name}: {_mismatch(path, errors, scope)}")


def _own(error: Mapping[str, Any], key: Key, scope: Scope) -> Complaint:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, BadValue):
        key = scope.prefix + undotted(cause.key)
    text = " ".join(str(error["msg"] if cause is None else cause).split())[:_LONGEST]
    name = dotted(key)
    section = isinstance(error["input"], dict | BaseModel) and not isinstance(cause, BadValue)
    return Complaint(key, f"{name}: {text}" if name else text, at_key=section)


def _unknown(path: Key, scope: Scope) -> str:
    name = str(path[-1])
    parts = name.split(".")
    if len(parts) > 1 and name in known_keys(scope.model):
        return f"unknown key; in a file write '{parts[0]}:' and '{parts[1]}:' indented below it"
    section = field_at(scope.model, path[:-1])
    model = section_of(section.annotation) if section else scope.model
    valid = list(model.model_fields) if model else []
    if len(path) == 1:
        valid = [*scope.also_valid, *valid]
    meant = _suggest(name, valid) or _suggest_elsewhere(name, scope)
    suggestion = f"; did you mean '{meant}'?" if meant else ";"
    here = ", ".join(valid) or "no keys"
    return f"unknown key{suggestion} valid here: {here}"


def _suggest_elsewhere(name: str, scope: Scope) -> str:
    inside = known_keys(scope.model, dotted(scope.prefix) + "." if scope.prefix else "")
    everywhere = [*inside, *scope.elsewhere]
    same = [known for known in everywhere if known.rpartition(".")[2] == name]
    return same[0] if same else _suggest(name, [k for k in everywhere if "." in k])


def _suggest(word: str, known: Sequence[str]) -> str:
    lower = {name.lower(): name for name in reversed(known)}
    close = get_close_matches(word.lower().replace("-", "_"), lower, n=1, cutoff=0.65)
    return lower[close[0]] if close else ""


def _needed(path: Key, scope: Scope) -> str:
    field = field_at(scope.model, path)
    if field is None:
        return "give it"
    about = " ".join((field.description or "").replace("``", "").split())
    return f"give {describe(field)}" + (f" ({about.rstrip('.')})" if about else "")


def _mismatch(path: Key, errors: Sequence[Mapping[str, Any]], scope: Scope) -> str:
    value = _value_at(path, scope.data)
    field = field_at(scope.model, path)
    if field is None:
        if not path:
            return f"must be a section of 'key: value' lines; got {show(value)}"
        plain = str(errors[0]["msg"]).replace("Input should be", "must be")
        return f"{plain[:1].lower()}{plain[1:]}; got {show(value)}"
    depth = sum(isinstance(part, int) for part in path)
    must = entry_phrase(field, depth) if depth else describe(field)
    text = f"must be {must}; got {show(value)}"
    if isinstance(value, str):
        meant = _suggest(value, choices(field.annotation))
        text += f"; did you mean '{meant}'?" if meant else ""
    if value is None and not field.is_required():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            return f"{text}; give keys under it, or remove the line for all defaults"
        return f"{text}; remove the line for the default, {show_default(default)}"
    return text if depth else text + hint(field, value)


def _value_at(path: Key, data: Any) -> Any:  # noqa: ANN401 - plain data of any form
    for part in path:
        data = data[part]
    return data
