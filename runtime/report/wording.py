"""How quantities and texts are written for people: on the terminal and in the report alike."""

from __future__ import annotations

import math
import re

_POWERFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def duration(seconds: float) -> str:
    """A time with the digits that matter: ``263 ms``, ``4.2 s``, ``3m 05s``, ``2h 07m``."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.0995:
        return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02d}h"
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {whole % 60:02d}s"


def clock(seconds: float) -> str:
    """A time to go, such as ``0:47`` or ``2:03:10``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    minutes = f"{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{minutes}:{whole % 60:02d}"


def size(count: float) -> str:
    """Bytes with a binary unit: ``512 B``, ``17.5 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1023.5 or unit == "TiB":
            break
    return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"


def short(value: float) -> str:
    """A number with three digits and a suffix: ``62.4k``, ``1.2M``."""
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if factor * 0.9995 <= abs(value) < math.inf:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def figure(value: float) -> str:
    """A loss, a norm or a rate: four decimals, or four digits where those would say nothing."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4f}"
    return f"{value:.3e}" if math.isfinite(value) else str(value)


def percent(part: float) -> str:
    """A part of one as ``43 %``."""
    return f"{part * 100:.0f} %"


def plural(count: int, noun: str) -> str:
    """``1 step``, ``2 steps``, ``3 batches``."""
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def rate_unit(metric: str) -> str:
    """What a second brings: the thing that ``metric`` is *per*, such as ``bytes/s``."""
    _, per, thing = metric.rpartition(" per ")
    return f"{thing}s/s" if per and thing.isalpha() else "terms/s"


def printable(text: str) -> str:
    """``text`` without power over a terminal or a page.

    Control characters (save line ends and tabs), halves of surrogate pairs and marks that turn
    the direction of the text are replaced by U+FFFD.
    """
    return _POWERFUL.sub("\ufffd", text.replace("\r\n", "\n"))
