"""A JSON object from disk, taken apart member by member with every type and range checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LARGEST = 2**63 - 1
"""The largest number that a record may hold."""


_DEEPEST = 50


class RecordError(ValueError):
    """The text is not the record that was expected; the message names the member."""


class Record:
    """The members of ``value``, an object that stands at ``where`` in its file.

    Each member is taken once; :meth:`close` then refuses those that nobody took.

    Raises:
        RecordError: from every method, when the member is missing or not of the type asked for.
    """

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise RecordError(f"{where or 'the top level'}: expected an object, got {_show(value)}")
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def text(self, key: str, pattern: str = r"(?s).*") -> str:
        """A text that matches the whole of ``pattern``."""
        value = self._take(key)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            expected = "a text" if pattern == r"(?s).*" else f"a text like {pattern}"
            raise RecordError(f"{self._at(key)}: expected {expected}, got {_show(value)}")
        return value

    def number(self, key: str, largest: int = LARGEST) -> int:
        """An integer from 0 to ``largest``."""
        return check_number(self._take(key), self._at(key), largest)

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self._take(key)
        if not isinstance(value, list):
            raise RecordError(f"{self._at(key)}: expected a list, got {_show(value)}")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """An object with any members."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise RecordError(f"{self._at(key)}: expected an object, got {_show(value)}")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """An object whose members are all texts."""
        value = self.mapping(key)
        for name, member in value.items():
            if not isinstance(member, str):
                where = f"{self._at(key)}.{name}"
                raise RecordError(f"{where}: expected a text, got {_show(member)}")
        return value

    def record(self, key: str) -> Record:
        """An object whose members are known."""
        return Record(self._take(key), self._at(key))

    def close(self) -> None:
        """Refuses members that were not taken."""
        if self._left:
            names = ", ".join(sorted(self._left))[:200]
            raise RecordError(f"{self._where or 'the top level'}: unknown member {names}")

    def _take(self, key: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        if key not in self._left:
            raise RecordError(f"{self._at(key)}: missing")
        return self._left.pop(key)

    def _at(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


def check_number(value: object, where: str, largest: int = LARGEST) -> int:
    """``value`` if it is an integer from 0 to ``largest``, else ``RecordError``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise RecordError(f"{where}: expected a number from 0 to {largest}, got {_show(value)}")
    return value


def parse_json(text: bytes | bytearray) -> object:
    """The value that ``text`` holds; ``RecordError`` for anything but strict JSON in UTF-8.

    Refused besides broken syntax: a name that an object has twice, NaN and infinities, halves of
    surrogate pairs, nesting deeper than 50, and numbers beyond what the interpreter takes.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        _check_depth_and_texts(value)
        return value
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("it is not JSON: nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"it is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"the member {_show(twice)} appears twice in one object")
    return members


def _check_depth_and_texts(value: object) -> None:
    """Walks without recursion: the value is not trusted to be shallow."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise RecordError("it is not JSON: nested too deeply")
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each)
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            elif isinstance(each, str):
                each.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair
        level, depth = below, depth + 1


def _no_constant(name: str) -> float:
    raise RecordError(f"it is not JSON: {name} is no number")


def _show(value: object) -> str:
    """``value`` short enough for a message, however hostile it is."""
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return f"a number of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
