"""Scalars by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, 10.3.2), within sane numbers."""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


def resolve(text: str, *, plain: bool) -> tuple[Scalar, str]:
    """The value of a scalar and what is wrong with it, or no text.

    Args:
        text: the scalar, escapes already replaced.
        plain: it was written without quotes, so it can be other than text.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):
        return None, "half of a surrogate pair is no text; write the whole character"
    if not plain:
        return text, ""
    if text in _NULL:
        return None, ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE, ""
    if _LEADING_ZERO.fullmatch(text):
        return None, f"{_cut(text)} starts with a zero: write the number without it, text in quotes"
    if _INT.fullmatch(text) or _BASED.fullmatch(text):
        number = int(text, 0) if len(text) <= 64 else 2**64
        if not -(2**63) <= number < 2**63:
            return None, f"{_cut(text)} is too large: whole numbers go from -2^63 to 2^63 - 1"
        return number, ""
    if _SPECIAL.fullmatch(text):
        return None, f"{text} is not a finite number; give a number, or put text in quotes"
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            return None, f"{_cut(text)} is too large: numbers go up to about 1.8e308"
        return value, ""
    return text, ""


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
