"""Timeouts stand in one order, whatever ``detect`` is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.timeouts import MEANING, Timeouts


@given(st.floats(0.01, 3600))
def test_order(detect_s: float) -> None:
    timeouts = Timeouts.from_detect(detect_s)
    seconds = [value for _, value in timeouts]
    assert seconds == sorted(set(seconds))
    assert timeouts.suspect_s == detect_s
    assert timeouts.beat_s * 3 < detect_s


@pytest.mark.parametrize("detect_s", [0.0, -1.0, float("inf"), float("nan")])
def test_nonsense_is_refused(detect_s: float) -> None:
    with pytest.raises(ValueError, match="beat_s"):
        Timeouts.from_detect(detect_s)


def test_a_wrong_order_is_refused() -> None:
    timeouts = Timeouts.from_detect(2)
    with pytest.raises(ValueError, match="suspect_s must be longer than call_s"):
        replace(timeouts, call_s=3.0)


def test_each_is_explained() -> None:
    assert list(MEANING) == [name for name, _ in Timeouts.from_detect(1)]
