"""What less memory costs: read off the profile's table, which travels as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.planner.profile import MemoryCost, Profile
from ithaca.runtime.measured import slowest

ROWS = (MemoryCost(0.25, 2.0), MemoryCost(0.5, 1.5), MemoryCost(1.0, 1.0))
PROFILE = Profile((), memory_costs=ROWS)


def test_between_rows_it_is_interpolated() -> None:
    assert PROFILE.slowdown(0.25) == 2.0
    assert PROFILE.slowdown(0.375) == pytest.approx(1.75)
    assert PROFILE.slowdown(0.75) == pytest.approx(1.25)
    assert PROFILE.slowdown(1.5) == 1.0


def test_below_the_first_row_nothing_can_be() -> None:
    assert PROFILE.slowdown(0.2) is None
    assert Profile(()).slowdown(0.9) is None
    assert Profile(()).slowdown(1.0) == 1.0


def test_a_profile_with_costs_is_read_back() -> None:
    assert Profile.from_json(PROFILE.to_json()) == PROFILE


def test_the_slowest_worker_counts_where_all_can_go_on() -> None:
    other = (MemoryCost(0.4, 3.0), MemoryCost(1.0, 1.0))
    found = slowest([ROWS, other])
    assert [row.share for row in found] == [0.4, 0.5, 1.0]
    assert found[0].slowdown == 3.0
    assert found[1].slowdown == pytest.approx(max(1.5, 3.0 - 2.0 / 6))
    assert slowest([]) == ()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 9)), min_size=1, max_size=6))
def test_more_room_never_costs_more(pairs: list[tuple[float, float]]) -> None:
    shares = sorted({share for share, _ in pairs})
    slowdowns = sorted((slowdown for _, slowdown in pairs[: len(shares)]), reverse=True)
    rows = tuple(MemoryCost(*row) for row in zip(shares, slowdowns, strict=True))
    profile = Profile((), memory_costs=rows)
    seen = [profile.slowdown(step / 50) for step in range(51)]
    known = [value for value in seen if value is not None]
    assert known == sorted(known, reverse=True)
