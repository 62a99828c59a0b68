"""Columns and charts of text."""

from __future__ import annotations

from ithaca.planner.program import Commit, Compute, Op
from ithaca.planner.simulate import Timed, Timeline
from ithaca.planner.span import Span
from ithaca.runtime.cli.table import gantt, table


def test_columns_are_aligned() -> None:
    assert table([("a", "1"), ("bcd", "20")], right=[1]) == ["  a     1", "  bcd  20"]
    assert table([]) == []


def test_a_chart() -> None:
    forward, backward = (Compute(op, Span(0, 1), 3) for op in (Op.F, Op.B))
    rows = (Timed(forward, 0.0, 1.0), Timed(backward, 2.0, 4.0), Timed(Commit(), 4.0, 5.0))
    timeline = Timeline(5.0, {7: rows}, {7: 0})
    assert gantt(timeline, 20)[0] == "  w7 F3--....B3------C---"


def test_a_step_of_no_time() -> None:
    timeline = Timeline(0.0, {0: (Timed(Commit(), 0.0, 0.0),)}, {0: 0})
    assert gantt(timeline, 4)[0] == "  w0 ...."
