"""Durations and sizes as people write them: ``2s``, ``150ms``, ``8GiB``, ``500MB``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_SECONDS = {
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_Units = Mapping[str, Fraction] | Mapping[str, int]
_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*([A-Za-z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks a type that is written with a unit; ``phrase`` says how, in messages."""

    phrase: str


def parse_seconds(value: object) -> float:
    """Seconds from ``2s`` or ``150ms``; ``ValueError`` without a unit or with an unknown one."""
    return float(_quantity(value, _SECONDS, "a duration", "2s, 150ms, 1.5h"))


def parse_size(value: object) -> int:
    """Bytes from ``8GiB`` or ``500MB``; ``ValueError`` without a unit or with an unknown one."""
    size = round(_quantity(value, _BYTES, "a size", "8GiB, 512MiB, 500MB"))
    if not 0 < size < 2**63:
        raise ValueError(f"a size is at least 1B and below 8388608TiB; got {value!r}")
    return size


def format_seconds(seconds: float) -> str:
    """Text that :func:`parse_seconds` reads back to the same number, such as ``2s``."""
    return f"{seconds:g}s" if float(f"{seconds:g}") == seconds else f"{seconds!r}s"


def format_size(size: int) -> str:
    """Text that :func:`parse_size` reads back to the same number, such as ``8GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def about_size(size: float) -> str:
    """``size`` bytes rounded for reading, such as ``1.5 GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit]:
            return f"{size / _BYTES[unit]:.1f} {unit}"
    return f"{size:.0f} B"


def _quantity(value: object, units: _Units, what: str, examples: str) -> Fraction:
    if not isinstance(value, str):
        raise ValueError(f"{what} is written with its unit, like {examples}; got {_show(value)}")
    match = _QUANTITY.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{what} is a number and a unit, like {examples}; got {value[:60]!r}")
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(
            f"{what} ends in one of {', '.join(units)}, like {examples}; got {value[:60]!r}"
        )
    return Fraction(number) * units[unit]


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"[:60]


def _seconds(value: object, info: ValidationInfo) -> float:
    if info.mode == "python" and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(float(value))
    return _finite(parse_seconds(value))


def _size(value: object, info: ValidationInfo) -> int:
    if info.mode == "python" and isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_size(value)


def _finite(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError("a duration is a finite number of seconds")
    return seconds


Seconds = Annotated[
    float,
    Unit("a duration such as 2s or 150ms"),
    BeforeValidator(_seconds),
    PlainSerializer(format_seconds, return_type=str, when_used="json"),
]
"""A duration in seconds. In a file it needs a unit; from Python a plain number is seconds."""

Size = Annotated[
    int,
    Unit("a size such as 8GiB or 500MB"),
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
]
"""A size in bytes. In a file it needs a unit; from Python a plain number is bytes."""
