"""The times follow from ``detect`` and are in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.control.deadlines import Deadlines


@given(st.floats(1e-3, 1e6))
def test_two_beats_begin_before_a_worker_is_overdue(detect_s: float) -> None:
    times = Deadlines.of(detect_s)
    assert 0 < times.beat_s < times.call_s < times.detect_s
    assert 2 * times.call_s + times.beat_s < times.detect_s


@pytest.mark.parametrize("detect_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(detect_s: float) -> None:
    with pytest.raises(ValueError, match="detect"):
        Deadlines.of(detect_s)
