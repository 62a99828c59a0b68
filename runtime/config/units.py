"""Durations and sizes as people write them: ``2s``, ``150ms``, ``8GiB``, ``1e-3``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_seconds(value: Any) -> float:  # noqa: ANN401 - whatever the file held
    """Seconds from ``2s`` or ``150ms``; ``ValueError`` without a unit or with an unknown one."""
    return _quantity(value, _SECONDS, "a duration", "2s, 150ms, 1.5h")


def parse_size(value: Any) -> int:  # noqa: ANN401 - whatever the file held
    """Bytes from ``8GiB`` or ``500MB``; ``ValueError`` without a unit or with an unknown one."""
    return round(_quantity(value, _BYTES, "a size", "8GiB, 512MiB, 500MB"))


def _quantity(value: Any, units: dict[str, Any], what: str, examples: str) -> float:  # noqa: ANN401
    if isinstance(value, float) and what == "a duration":
        return value
    if not isinstance(value, str):
        raise ValueError(f"{what} is written with its unit, like {examples}; got {value!r}")
    text = value.strip()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :]
    if unit not in units:
        raise ValueError(f"{what} ends in one of {', '.join(units)}, like {examples}; got {value!r}")
    try:
        return float(number) * float(units[unit])
    except ValueError:
        raise ValueError(f"{what} starts with a number, like {examples}; got {value!r}") from None


Seconds = Annotated[float, BeforeValidator(parse_seconds)]
"""A duration in seconds."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""A size in bytes."""
