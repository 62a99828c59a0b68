"""The geometry of charts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.report import chart as chart_module
from ithaca.runtime.report.chart import SIDE, Chart, Curve, chart, smooth, thin, ticks

VALUES = st.lists(st.floats(), min_size=1, max_size=60)


def places(drawn: Chart) -> list[tuple[float, float]]:
    numbers = "".join(stroke.path for stroke in drawn.strokes)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.e+]+) ([-\d.e+]+)", numbers)]


def line(values: list[float]) -> Chart:
    return chart("t", "u", [Curve("a", "b", list(enumerate(values)))])


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_every_place_is_on_the_plot(values: list[float]) -> None:
    drawn = line(values)
    for x, y in places(drawn):
        assert 0 <= x <= SIDE
        assert 0 <= y <= SIDE
    for tick in (*drawn.x_ticks, *drawn.y_ticks):
        assert -0.01 <= tick.at <= SIDE + 0.01


def test_y_runs_down_and_x_to_the_right() -> None:
    (a, b, c) = places(line([1.0, 2.0, 3.0]))
    assert a[0] < b[0] < c[0]
    assert a[1] > b[1] > c[1]


def test_that_is_noticed_when_y_runs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = chart_module._Scale.__call__
    monkeypatch.setattr(chart_module._Scale, "__call__", lambda s, v: SIDE - scale(s, v))
    (a, b, _) = places(line([1.0, 2.0, 3.0]))
    assert a[1] < b[1]


def test_a_single_value_is_a_dot() -> None:
    (stroke,) = line([3.0]).strokes
    assert stroke.dots


def test_nothing_to_show() -> None:
    drawn = line([float("nan")])
    assert drawn.strokes == ()
    assert drawn.note == "1 value not finite, not drawn"


def test_a_tick_stands_at_its_value() -> None:
    drawn = chart("t", "u", [Curve("a", "b", [(0, 0.0), (10, 100.0)])], floor=0.0)
    assert [(tick.at, tick.text) for tick in drawn.y_ticks] == [
        (1000.0, "0"), (800.0, "20"), (600.0, "40"), (400.0, "60"), (200.0, "80"), (0.0, "100"),
    ]  # fmt: skip
    assert [tick.text for tick in drawn.x_ticks] == ["0", "2", "4", "6", "8", "10"]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e6), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_ticks_are_few_and_inside(low: float, part: float, count: int) -> None:
    length = part * max(1.0, abs(low))
    found = ticks(low, low + length, count)
    assert len(found) <= 2 * count + 1
    assert all(low - length * 1e-6 <= t <= low + length * (1 + 1e-6) for t in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1000))
@settings(max_examples=20, deadline=None)
def test_thinning_keeps_the_outline(values: list[float]) -> None:
    points = list(enumerate(values))
    kept = thin(points, most=100)
    assert len(kept) <= 104
    assert set(kept) <= set(points)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert {min(values), max(values)} <= {y for _, y in kept}
    assert (kept[0], kept[-1]) == (points[0], points[-1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
@settings(max_examples=30, deadline=None)
def test_the_mean_stays_within_the_values(values: list[float]) -> None:
    means = [y for _, y in smooth(list(enumerate(values)))]
    room = 1e-6 * max(1.0, *map(abs, values))
    assert len(means) == len(values)
    assert min(values) - room <= min(means)
    assert max(means) <= max(values) + room


def test_marks_outside_are_left_out() -> None:
    curve = Curve("a", "b", [(10, 1.0), (20, 2.0)])
    drawn = chart("t", "u", [curve], marks=[(5, "before"), (15, "within")])
    assert [mark.text for mark in drawn.marks] == ["within"]
