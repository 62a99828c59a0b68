"""Spans and micro-batch lists: their text form and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.span import Span, format_ids, parse_ids


@given(st.integers(0, 99), st.integers(1, 99))
@settings(deadline=None)
def test_span_round_trips(first: int, length: int) -> None:
    span = Span(first, first + length)
    assert Span.parse(str(span)) == span
    assert list(span) == list(range(first, first + length))
    assert len(span) == length
    assert first in span
    assert first + length not in span


@given(st.sets(st.integers(0, 60)))
@settings(deadline=None)
def test_ids_round_trip(ids: set[int]) -> None:
    assert parse_ids(format_ids(ids)) == tuple(sorted(ids))


def test_ids_are_written_as_runs() -> None:
    assert format_ids([6, 0, 1, 2, 3]) == "0-3,6"
    assert format_ids([]) == "-"


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "3:3", "4:3", "-1:3", "a:b", "1:2:3"])
def test_span_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="span of layers"):
        Span.parse(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "2,1", "1,1", "0-3,3", "3-1,", "1--2"])
def test_ids_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="micro-batches are written"):
        parse_ids(text)
