"""Sizes as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", 1)
    for suffix, base in (("iB", 1024), ("B", 1000))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(size: int | str) -> int:
    """Bytes of ``6GiB``, ``1.5 GB``, ``100000`` or a number; ``ValueError`` for anything else."""
    if isinstance(size, int) and not isinstance(size, bool):
        if size >= 0:
            return size
    elif isinstance(size, str) and (found := _SIZE.fullmatch(size)) and found[2] in _UNITS:
        return int(float(found[1]) * _UNITS[found[2]])
    raise ValueError(
        f"{size!r} is no size: give bytes as a number, or a text like 6GiB, 500MB "
        f"(units: {', '.join(unit for unit in _UNITS if unit)})"
    )


def show_bytes(size: int) -> str:
    """``1.50 GiB``, as short as it stays readable."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    raise AssertionError(size)
