"""Faults as text, and the points that they mean."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.planner.plan import Plan
from ithaca.recovery.fault import (
    ACTIONS,
    CONTROLLER,
    CONTROLLER_POINTS,
    NEEDS_TIME,
    ON_CONTROLLER,
    TAKES_TIME,
    TAKES_TIMES,
    WORKER_POINTS,
    Fault,
    FaultError,
    FaultKind,
    Moment,
    Point,
    Seat,
)


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Any fault that can be had."""
    seats = st.builds(Seat, st.integers(0, 9), st.integers(0, 9))
    target = draw(st.one_of(st.integers(0, 99), seats, st.just(CONTROLLER)))
    on_controller = target == CONTROLLER
    kind = draw(st.sampled_from(sorted(ON_CONTROLLER, key=str) if on_controller else FaultKind))
    names = CONTROLLER_POINTS if on_controller else (*ACTIONS, *WORKER_POINTS)
    what = draw(st.sampled_from(["", *names, f"{names[0]} m3"]))
    seconds = st.floats(1e-3, 9e3)
    lasts = kind in NEEDS_TIME or (kind in TAKES_TIME and draw(st.booleans()))
    return Fault(
        kind,
        target,
        draw(st.integers(1, 10**6)),
        draw(st.sampled_from(Moment)) if what else Moment.BEFORE,
        what,
        draw(st.integers(1, 5)),
        draw(seconds) if lasts else None,
        draw(st.floats(1.5, 100.0)) if kind is FaultKind.SLOW else 3.0,
        draw(st.integers(1, 9)) if kind in TAKES_TIMES else 1,
        draw(st.none() | st.integers(100, 109)) if kind is FaultKind.PARTITION else None,
    )


@given(faults())
def test_the_text_reads_back(fault: Fault) -> None:
    assert Fault.parse(str(fault)) == fault


def test_people_may_write_units() -> None:
    assert Fault.parse("stop w2 at step 5 after COMMIT for 500ms").for_s == 0.5
    assert Fault.parse("slow w2 at step 5 for 2min factor 4").for_s == 120.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crash w1", "is written like"),
        ("crush w1 at step 3", "did you mean 'crash'"),
        ("crash 1 at step 3", "a target is wN, stageS.pipelineP or controller"),
        ("crash w1 at step 0", "counted from 1"),
        ("crash w1 at step x", "whole number"),
        ("crash w1 at step 3 during B", "begins with one of before, after"),
        ("crash w1 at step 3 before b", "did you mean 'B'"),
        ("crash w1 at step 3 before", "followed by a point"),
        ("crash w1 at step 3 before B for 3s", "does not last"),
        ("slow w1 at step 3", "needs its duration"),
        ("stop w1 at step 3 for 3", "a duration such as"),
        ("stop w1 at step 3 for 0s", "more than 0 s"),
        ("stop w1 at step 3 for 3s for 4s", "given twice"),
        ("stop w1 at step 3 for", "has no value"),
        ("raise controller at step 3", "the controller can be met by"),
        ("crash controller at step 3 before B", "the point is one of notice, fence"),
        ("slow w1 at step 3 for 1s factor 1", "times slower"),
        ("crash w1 at step 3 nth 0", "count from 1"),
        ("partition w1 at step 3 from 2", "followed by a worker such as w1"),
        ("partition w1 at step 3 from w1", "cut off from itself"),
        ("crash w1 at step 3 from w2", "whom a partition cuts off"),
        ("", "is written like"),
    ],
)
def test_mistakes_are_told(text: str, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        Fault.parse(text)


def at(step: int, moment: str, what: str) -> Point:
    return Point(step, Moment(moment), what)


def test_a_point_is_meant_by_its_step_its_side_and_its_words() -> None:
    fault = Fault.parse("crash w1 at step 3 before B m2")
    assert fault.matches(at(3, "before", "B 0:3 m2"))
    for step, moment, what in product((2, 3, 4), ("before", "after"), ("B 0:3 m2", "B 0:3 m1")):
        meant = (step, moment, what) == (3, "before", "B 0:3 m2")
        assert fault.matches(at(step, moment, what)) is meant
    assert not fault.matches(at(3, "before", "F 0:3 m2"))
    assert not fault.matches(at(3, "before", "B m22"))


def test_a_checkpoint_is_written_some_time_behind_its_step() -> None:
    fault = Fault.parse("crash w1 at step 3 before save")
    assert [fault.matches(at(step, "before", "save")) for step in (2, 3, 5)] == [False, True, True]
    assert not fault.matches(at(4, "after", "save"))


def test_without_words_the_first_point_is_meant_however_late() -> None:
    fault = Fault.parse("crash w1 at step 3")
    assert not fault.matches(at(2, "after", "STEP 0:3"))
    assert fault.matches(at(3, "before", "RECV a3 m0 < w0"))
    assert fault.matches(at(5, "after", "COMMIT"))


def test_a_seat_becomes_a_worker() -> None:
    plan = Plan.parse(
        "plan generation=0 schedule=1f1b\npipeline 0-3 0:3@w4 3:6@w2\npipeline 4-7 0:6@w0\n"
    )
    fault = Fault.parse("crash stage1.pipeline0 at step 3")
    assert fault.on(plan) == Fault.parse("crash w2 at step 3")
    assert fault.on(plan).on(plan) == fault.on(plan)
    for wrong, says in (("stage1.pipeline1", "stages 0 to 0"), ("stage0.pipeline2", "0 to 1")):
        with pytest.raises(FaultError, match=says):
            Fault.parse(f"crash {wrong} at step 3").on(plan)
