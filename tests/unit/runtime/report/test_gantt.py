"""The timeline of a step, and how its parts are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.plan import Plan
from ithaca.runtime.events import Timeline
from ithaca.runtime.report import gantt as gantt_module
from ithaca.runtime.report.chart import SIDE
from ithaca.runtime.report.gantt import gantt, held, op_of, shares
from tests.helpers.fake_run import PLAN, FakeRun

LINE = Timeline(
    time_s=9.0, step=1, worker=0, began_s=5.0, peak_bytes=1,
    rows=[("F 0:2 m0", 0.0, 1.0), ("WAIT B 0:2 m0", 1.0, 2.0), ("B 0:2 m0", 2.0, 4.0)],
)  # fmt: skip
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["F 0:1 m0", "WAIT F 0:1 m0", "REDUCE 0:1 w0:0", "odd", ""]),
        st.floats(0, 10),
        st.floats(0, 10),
    ).map(lambda row: (row[0], min(row[1:]), max(row[1:])))
)


def test_ops() -> None:
    assert [op_of(a) for a in ("F 0:1 m0", "COMMIT", "WAIT F 0:1 m0", "", " ", "Fx")] == [
        "F", "COMMIT", "WAIT", "OTHER", "OTHER", "OTHER",
    ]  # fmt: skip


def test_shares_are_counted() -> None:
    share = shares(LINE.rows, 5.0)
    assert (share.busy, share.exchange, share.idle) == pytest.approx((0.6, 0.0, 0.4))


@given(ROWS)
@settings(max_examples=30, deadline=None)
def test_shares_are_parts_of_one(rows: list[tuple[str, float, float]]) -> None:
    share = shares(rows, max((end for _, _, end in rows), default=0.0))
    assert all(-1e-9 <= part <= 1 + 1e-9 for part in (share.busy, share.exchange, share.idle))
    assert share.busy + share.exchange + share.idle <= 1 + 1e-9


def test_overlaps_count_once() -> None:
    rows = [("F 0:1 m0", 0.0, 2.0), ("B 0:1 m0", 1.0, 3.0), ("WAIT F 0:1 m0", 0.0, 1.0)]
    assert shares(rows, 4.0).busy == pytest.approx(0.5)


def test_that_is_noticed_when_waiting_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantt_module, "COMPUTE", gantt_module.COMPUTE | {"WAIT"})
    monkeypatch.setattr(gantt_module, "op_of", lambda action: "F")
    assert shares(LINE.rows, 5.0).busy != pytest.approx(0.6)


def test_bars_stand_where_the_time_is() -> None:
    view = gantt({}, {0: LINE}, None)
    bars = view.crews[0].lanes[0].bars
    assert [(bar.op, bar.left, bar.width) for bar in bars] == [
        ("WAIT", 250.0, 250.0), ("F", 0.0, 250.0), ("B", 500.0, 500.0),
    ]  # fmt: skip
    assert [bar.label for bar in bars] == ["", "0", "0"]


def test_clocks_are_joined_by_when_the_step_began() -> None:
    late = replace(LINE, worker=1, began_s=6.0)
    view = gantt({}, {0: LINE, 1: late}, None)
    firsts = [crew.lanes[0].bars[1].left for crew in view.crews]
    assert firsts == [0.0, 200.0]


def test_plan_and_measured_stand_together() -> None:
    view = gantt({0: LINE.rows}, {0: LINE, 1: replace(LINE, worker=1)}, Plan.parse(PLAN))
    assert [[lane.kind for lane in crew.lanes] for crew in view.crews] == [
        ["planned", "measured"], ["measured"],
    ]  # fmt: skip
    assert [crew.holds for crew in view.crews] == ["layers 0–3", "layers 4–7"]  # noqa: RUF001
    assert [op for op, _ in view.legend] == ["F", "B", "WAIT"]


def test_nothing_to_draw() -> None:
    assert gantt({}, {}, None).crews == ()
    assert gantt({}, {0: replace(LINE, rows=[])}, None).crews == ()


def test_many_bars_are_joined_and_many_workers_left_out() -> None:
    rows = [("F 0:1 m0", n / 3e3, (n + 1) / 3e3) for n in range(3_000)]
    many = {worker: replace(LINE, worker=worker, rows=rows[:1]) for worker in range(40)}
    view = gantt({}, many | {0: replace(LINE, rows=rows)}, None)
    assert view.left_out == 8
    bars = view.crews[0].lanes[0].bars
    assert 100 < len(bars) < 1300
    assert sum(bar.width for bar in bars) == pytest.approx(SIDE, rel=0.01)
    assert "more" in bars[0].title


def test_layers_are_named() -> None:
    plan = Plan.parse("plan generation=0 schedule=gpipe\npipeline 0 0:1@w0 1:3@w1\n")
    assert [held(plan, w) for w in (0, 1, 2)] == ["layer 0", "layers 1–2", ""]  # noqa: RUF001


def test_who_only_stands_by_is_drawn_too() -> None:
    """After a loss a worker may have routes and shadows, and no stage."""
    plan = Plan.parse(
        "plan generation=2 schedule=1f1b-split\npipeline 0-1 0:3@w0 3:6@w1\n"
        "route m1 0:3@w2\nshadow 0:3@w2\nshadow 4:5@w2\n"
    )
    (crew,) = gantt({}, {2: replace(LINE, worker=2)}, plan).crews
    assert crew.holds == "layers 0–2, 4"  # noqa: RUF001


def test_the_helper_makes_steps_that_fit() -> None:
    lines = [e for e in FakeRun(steps=1).events() if isinstance(e, Timeline)]
    assert len(lines) == 4
    for timeline in lines:
        ends = [0.0, *(end for _, _, end in timeline.rows)]
        assert all(row[1] >= before for row, before in zip(timeline.rows, ends, strict=False))
