"""``section.key=value`` from the command line, merged into the data of the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ithaca.runtime.config.errors import Problem
from ithaca.runtime.config.provenance import Key, Marks, Override, Position
from ithaca.runtime.config.source import Source, parse_source

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*", re.ASCII)
_MAX_LENGTH = 10_000


def apply_overrides(
    source: Source, file: str, texts: Sequence[str]
) -> tuple[Any, Marks, list[Problem]]:
    """The data of ``source`` with every override set, the last one of a key winning.

    A value is read as YAML. One that is a section sets each of its keys, as if each had been
    given by itself; a list replaces the whole list.

    Returns:
        The merged data, where each value of it stands, and what is wrong with the overrides.
    """
    data = source.data
    keys, values = dict(source.keys), dict(source.values)
    set_by: dict[Key, Override] = {}
    problems: list[Problem] = []
    for number, text in enumerate(texts, 1):
        override = Override(number, text if len(text) <= 80 else f"{text[:77]}...")
        parsed = _parse(text)
        if isinstance(parsed, str):
            problems.append(Problem(override, parsed))
            continue
        key, value = parsed
        for leaf, part in _leaves(key, value):
            blocked = _blocked(data, leaf)
            if blocked:
                what = f"'{'.'.join(blocked)}' holds a value in {file}, it is not a section"
                problems.append(Problem(override, what))
                continue
            data = _set(data, leaf, part)
            _forget(leaf, keys, values, set_by)
            set_by[leaf] = override
    return data, Marks(file, keys, values, set_by), problems


def _parse(text: str) -> tuple[tuple[str, ...], Any] | str:
    """The key and the value, or what is wrong."""
    if len(text) > _MAX_LENGTH:
        return f"is longer than {_MAX_LENGTH} characters; put it into the file"
    name, equals, written = text.partition("=")
    if not equals:
        return "an override is written section.key=value, such as optimizer.lr=1e-3"
    if not _NAME.fullmatch(name):
        shown = name if name else "nothing"
        return f"the part before '=' is a key such as optimizer.lr, not {shown!r}"
    if not written.strip():
        return f"gives no value; write {name}=VALUE, or {name}=null for none"
    inner = parse_source(written)
    if inner.problems:
        return f"the value cannot be read: {inner.problems[0].text}"
    return tuple(name.split(".")), inner.data


def _leaves(key: tuple[str, ...], value: object) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict) or not value:
        return [(key, value)]
    return [leaf for name, part in value.items() for leaf in _leaves((*key, name), part)]


def _blocked(data: object, key: tuple[str, ...]) -> tuple[str, ...]:
    """The part of ``key`` that holds a value where a section is needed, or nothing."""
    here = data
    for length, name in enumerate(key[:-1], 1):
        here = here.get(name) if isinstance(here, dict) else None
        if here is None:
            return ()
        if not isinstance(here, dict):
            return key[:length]
    return ()


def _set(data: object, key: tuple[str, ...], value: object) -> Any:  # noqa: ANN401 - plain data
    if not key:
        return value
    pairs = dict(data) if isinstance(data, dict) else {}
    pairs[key[0]] = _set(pairs.get(key[0]), key[1:], value)
    return pairs


def _forget(
    key: Key, keys: dict[Key, Position], values: dict[Key, Position], set_by: dict[Key, Override]
) -> None:
    """Drops every place of ``key`` and of what is in it."""
    places: tuple[dict[Key, Any], ...] = (keys, values, set_by)
    for written in places:
        for other in [other for other in written if other[: len(key)] == key]:
            del written[other]
