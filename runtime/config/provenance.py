"""Where each value of a job came from: a place in the file, an override, or a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Key = tuple[str | int, ...]
"""The way to a value: names of sections and options, positions in lists; ``()`` is the root."""


class Kind(Enum):
    """The three places that a value can come from."""

    DEFAULT = "default"
    FILE = "file"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text file, both numbers from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from; ``text`` is the form that messages and ``check`` show.

    ``text`` is ``default``, ``job.yaml:6:3``, or ``override 2``.
    """

    kind: Kind
    text: str


DEFAULT = Origin(Kind.DEFAULT, "default")


@dataclass(frozen=True, slots=True)
class Override:
    """``section.key=value`` from the command line: the ``number``-th, as ``text``."""

    number: int
    text: str

    def __str__(self) -> str:
        return f"override {self.number}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Marks:
    """Positions of everything that was written.

    Attributes:
        file: how messages name the file.
        keys: where each key stands in the file.
        values: where each value stands in the file.
        overrides: the override that set a value, which then has no position in the file.
    """

    file: str
    keys: Mapping[Key, Position]
    values: Mapping[Key, Position]
    overrides: Mapping[Key, Override]

    def origin(self, key: Key) -> Origin:
        """Where the value of ``key`` came from; the default if nobody wrote it."""
        if key in self.overrides:
            return Origin(Kind.OVERRIDE, f"override {self.overrides[key].number}")
        if key in self.values:
            return Origin(Kind.FILE, f"{self.file}:{self.values[key]}")
        return DEFAULT

    def place(self, key: Key, *, at_key: bool = False) -> Position | Override:
        """What to point at for ``key``: itself, or the nearest section around it."""
        for other, override in self.overrides.items():
            if other[: len(key)] == key and key not in self.values:
                return override
        for length in range(len(key), -1, -1):
            part = key[:length]
            if part in self.overrides:
                return self.overrides[part]
            where = self.keys if at_key or length < len(key) else self.values
            if part in where:
                return where[part]
        return self.values.get((), Position(1, 1))


def dotted(key: Key) -> str:
    """``key`` as people write it: ``layout.split[0][1]``."""
    text = ""
    for part in key:
        name = f"[{part}]" if isinstance(part, int) else printable(part)
        text += f".{name}" if text and not isinstance(part, int) else name
    return text


def printable(text: str, most: int = 60) -> str:
    """``text`` on one line of at most ``most`` characters, whatever it holds."""
    shown = text if text.isprintable() else repr(text)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def undotted(text: str) -> Key:
    """The key written as ``layout.split.0``; parts of digits alone are positions in a list."""
    return tuple(int(part) if part.isdecimal() else part for part in text.split("."))
