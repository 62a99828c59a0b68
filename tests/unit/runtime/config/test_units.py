"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.config.units import (
    about_size,
    format_seconds,
    format_size,
    parse_seconds,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("150ms", 0.15),
        ("7us", 7e-6),
        ("1.5h", 5400.0),
        ("2min", 120.0),
        ("1d", 86400.0),
        (" 3 s ", 3.0),
        ("1e-3s", 0.001),
        (".5s", 0.5),
        ("-1s", -1.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 2**30),
        ("500MB", 500 * 10**6),
        ("1.5KiB", 1536),
        ("1B", 1),
        ("2TB", 2 * 10**12),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    ["2", "s", "2 m", "2S", "", "2ss", "s2", "1_0s", "٣s", "infs", "nan", "1e9999s", 2, 2.0, True],
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_seconds(value)


@pytest.mark.parametrize("value", ["8", "8G", "8gib", "0GiB", "-1B", "1e30TB", "0.1B", 8, None])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="a size"):
        parse_size(value)


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_comes_back(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == seconds


@given(st.integers(1, 2**63 - 1))
def test_a_size_comes_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_sizes_for_reading() -> None:
    assert about_size(0) == "0 B"
    assert about_size(1536) == "1.5 KiB"
    assert about_size(3 * 2**30) == "3.0 GiB"
