"""How quantities are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.report.wording import (
    clock,
    duration,
    figure,
    plural,
    printable,
    rate_unit,
    short,
    size,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"), (4.2e-6, "4.2 µs"), (0.0123, "12.3 ms"), (0.2634, "263 ms"),
        (0.9999, "1 s"), (4.21, "4.21 s"), (12.3, "12 s"), (59.99, "1m 00s"), (185, "3m 05s"),
        (7620, "2h 07m"), (200_000, "2d 07h"), (-1.5, "-1.5 s"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_other_quantities() -> None:
    assert [clock(s) for s in (0, 47.4, 60, 7390, -3, math.nan)] == [
        "0:00", "0:47", "1:00", "2:03:10", "0:00", "?",
    ]  # fmt: skip
    assert [size(b) for b in (0, 1023, 1024, 18_400_000, 1023 * 1024, 2**50, 2**62)] == [
        "0 B", "1023 B", "1 KiB", "17.5 MiB", "1023 KiB", "1024 TiB", "4194304 TiB",
    ]  # fmt: skip
    assert [short(v) for v in (0, 0.003, 999, 999.9, 62_400, 1.2e6, 5e13, math.inf)] == [
        "0", "0.003", "999", "1k", "62.4k", "1.2M", "50T", "inf",
    ]  # fmt: skip
    assert [figure(v) for v in (0, 1.86754, 1e-5, 123456.0, math.nan)] == [
        "0.0000", "1.8675", "1.000e-05", "1.235e+05", "nan",
    ]  # fmt: skip
    assert [plural(n, "batch") for n in (1, 2000)] == ["1 batch", "2,000 batches"]
    assert [rate_unit(m) for m in ("bits per byte", "loss", "", "a per b c")] == [
        "bytes/s", "terms/s", "terms/s", "terms/s",
    ]  # fmt: skip


@given(st.text(st.characters()))
@settings(max_examples=50, deadline=None)
def test_printable_text_has_no_power(text: str) -> None:
    shown = printable(text)
    assert all(char in "\n\t" or ord(char) >= 32 for char in shown)
    assert "\x1b" not in shown
    shown.encode()
    assert printable(shown) == shown
