"""Plain scalars by YAML 1.2."""

from __future__ import annotations

import pytest

from ithaca.runtime.config.scalar import resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("+1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("3", 3),
        ("-3", -3),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("tRue", "tRue"),
        ("-", "-"),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_plain(text: str, value: object) -> None:
    found, wrong = resolve(text, plain=True)
    assert (found, type(found), wrong) == (value, type(value), "")


@pytest.mark.parametrize("text", ["1e-3", "true", "null", "", ".inf", "010"])
def test_quoted_is_text(text: str) -> None:
    assert resolve(text, plain=False) == (text, "")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        (".inf", "finite"),
        ("-.INF", "finite"),
        (".nan", "finite"),
        ("1e999", "too large"),
        ("9223372036854775808", "2^63"),
        ("9" * 10_000, "2^63"),
        ("0x" + "f" * 100, "2^63"),
        ("010", "zero"),
        ("\ud800", "surrogate"),
    ],
)
def test_refused(text: str, about: str) -> None:
    value, wrong = resolve(text, plain=True)
    assert value is None
    assert about in wrong
    assert len(wrong) < 120
