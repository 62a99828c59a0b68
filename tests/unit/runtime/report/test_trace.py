"""The trace opens in a viewer: fields, nesting, arrows, names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.events import Event, StepDone, Timeline
from ithaca.runtime.report import trace as trace_module
from ithaca.runtime.report.trace import RUN, build_trace, write_trace
from tests.helpers.fake_run import FakeRun, resumed
from tests.helpers.trace_oracle import faults

Record = dict[str, Any]


def some_runs() -> list[list[Event]]:
    return [
        [],
        list(FakeRun(steps=30).events()),
        list(FakeRun(stop=25, outcome="failed").events()),
        resumed(FakeRun(steps=60), 55, 50),
        list(FakeRun(steps=3).events())[:7],
    ]


@pytest.mark.parametrize("number", range(5))
def test_the_trace_is_sound(number: int) -> None:
    assert faults(build_trace(some_runs()[number])) == []


def test_every_action_of_a_recorded_step_is_there() -> None:
    events = list(FakeRun(steps=2).events())
    slices = [r for r in build_trace(events)["traceEvents"] if r["ph"] == "X" and r["pid"] != RUN]
    rows = [(e.worker, e.rows) for e in events if isinstance(e, Timeline)]
    assert len(slices) == sum(len(part) for _, part in rows)
    for worker, part in rows:
        names = sorted(r["name"] for r in slices if r["pid"] == worker + 2)
        assert names == sorted(action for action, _, _ in part)


def test_every_message_is_an_arrow_to_its_user() -> None:
    events = list(FakeRun(steps=2).events())
    records = build_trace(events)["traceEvents"]
    sends = [r for r in records if r["ph"] == "X" and r["name"].startswith("SEND")]
    assert len([r for r in records if r["ph"] == "s"]) == len(sends) == 16
    user = {(r["pid"], r["tid"], r["ts"]): r["name"] for r in records if r["ph"] == "X"}
    first = next(r for r in sends if r["name"] == "SEND a4 m0 > w1")
    start = next(r for r in records if r["ph"] == "s" and r["ts"] == first["ts"])
    (end,) = [r for r in records if r["ph"] == "f" and r["id"] == start["id"]]
    assert user[end["pid"], end["tid"], end["ts"]] == "F 4:8 m0"
    assert end["pid"] == 3


def test_clocks_are_joined_by_when_the_step_began() -> None:
    events = list(FakeRun(steps=1).events())
    late = [
        replace(e, began_s=e.began_s + 1.0) if isinstance(e, Timeline) and e.worker == 1 else e
        for e in events
    ]

    def began(told: list[Event]) -> float:
        records = build_trace(told)["traceEvents"]
        return min(float(r["ts"]) for r in records if r["ph"] == "X" and r["pid"] == 3)

    assert began(late) - began(events) == pytest.approx(1e6)


def test_rows_that_overlap_are_drawn_apart() -> None:
    line = Timeline(
        time_s=9.0, step=1, worker=0, began_s=5.0, peak_bytes=0,
        rows=[("F 0:1 m0", 0.0, 2.0), ("F 0:1 m1", 1.0, 3.0), ("F 0:1 m2", 2.5, 4.0)],
    )  # fmt: skip
    built = build_trace([line])
    assert faults(built) == []
    tracks = [r["tid"] for r in built["traceEvents"] if r["ph"] == "X"]
    assert tracks == [1, 2, 1]


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    events = [
        replace(e, loss=float("nan"), norm=float("inf"), seconds=0.0)
        if isinstance(e, StepDone)
        else e
        for e in FakeRun(steps=3).events()
    ]
    built = build_trace(events)
    assert faults(built) == []
    assert {r["name"] for r in built["traceEvents"] if r["ph"] == "C"} == {"validation loss"}


def test_the_oracle_sees_arrows_that_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = trace_module._arrows

    def backward(slices: list[Record], last: int) -> Iterator[Record]:
        for record in forward(slices, last):
            turned = {**record, "ph": "f" if record["ph"] == "s" else "s", "bp": "e"}
            yield turned

    monkeypatch.setattr(trace_module, "_arrows", backward)
    assert any("back in time" in fault for fault in faults(build_trace(some_runs()[1])))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r.pop("dur", None), "X lacks dur"),
        (lambda r: r.pop("pid"), "X lacks pid"),
        (lambda r: r.update(ts=-1.0), "X before the start"),
        (lambda r: r.update(dur=r["dur"] * 1.3), "overlaps the slice before it"),
        (lambda r: r.update(tid=77), "thread 77 of process 2 has no name"),
        (lambda r: r.update(ts=float("nan")), "not JSON"),
    ],
)
def test_the_oracle_sees_damage(change: Any, fault: str) -> None:  # noqa: ANN401
    built = build_trace(some_runs()[1])
    record = next(
        r for r in built["traceEvents"] if r["ph"] == "X" and r["pid"] == 2 and r["dur"] > 0
    )
    change(record)
    assert any(fault in found for found in faults(built))


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_trace(some_runs()[1], path)
    assert faults(json.loads(path.read_text())) == []
    assert [found.name for found in tmp_path.iterdir()] == ["trace.json"]
