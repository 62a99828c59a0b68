"""What the benchmarks of real runs read out of an event log."""

from __future__ import annotations

import pytest

from benchmarks.estimator import LAYOUTS, MICRO_BATCHES, compare
from benchmarks.recovery_latency import (
    POINTS,
    UnlikeError,
    fault_of,
    latency,
    quantile,
)
from ithaca.recovery.fault import Fault
from ithaca.runtime.events import (
    Decided,
    Event,
    FaultInjected,
    PlanChosen,
    Recovered,
    Timeline,
)
from tests.helpers.step_done import step_done

BEFORE = "plan generation=0 schedule=1f1b\npipeline 0-3 0:4@w0\npipeline 4-7 0:4@w1"
AFTER = "plan generation=1 schedule=1f1b\npipeline 0-7 0:4@w0"
PHASES = {
    "detect": 0.1, "wake": 0.2, "decide": 0.1, "move": 0.0, "rebuild": 0.1, "redo": 0.3,
    "first_step": 0.5,
}  # fmt: skip


def chosen(generation: int, plan: str, predicted_s: float) -> PlanChosen:
    return PlanChosen(
        time_s=0.0, generation=generation, plan=plan, programs={}, predicted_step_s=predicted_s,
        predicted={}, predicted_peak_bytes={}, reason="",
    )  # fmt: skip


def recovered(time_s: float) -> Recovered:
    return Recovered(
        time_s=time_s, generation=1, strategy="reroute", phases=PHASES, redone=[],
        redone_micro_batches=2, lost_samples=0, pause_s=0.4, predicted_step_s=2.0,
        predicted_transition_s=0.1,
    )  # fmt: skip


def decided() -> Decided:
    return Decided(
        time_s=0.0, generation=1, strategy="reroute", plan=AFTER, reason="", candidates=[],
        predicted_step_s=2.0, predicted_transition_s=0.1,
    )  # fmt: skip


def run() -> list[Event]:
    """Nominal times, measured ones from step 3 on, a loss in step 7 that takes 5 s."""
    return [
        chosen(0, BEFORE, 9.0),
        *(step_done(step) for step in (1, 2, 3)),
        chosen(0, BEFORE, 1.1),
        *(step_done(step) for step in (4, 5, 6)),
        decided(),
        chosen(1, AFTER, 2.2),
        *(step_done(step, 1, time_s=12.0 + 2 * (step - 7)) for step in (7, 8, 9)),
    ]


def test_a_prediction_is_compared_with_the_steps_under_its_plan() -> None:
    before, after = compare(run(), fewest=2)
    assert (before.strategy, before.predicted_s, before.measured_s) == ("", 1.1, 1.0)
    assert before.error == pytest.approx(0.1)
    assert (after.strategy, after.predicted_s, after.measured_s) == ("reroute", 2.2, 2.0)
    assert (len(before.plan.workers), len(after.plan.workers)) == (2, 1)


def test_nominal_times_and_short_stretches_are_not_compared() -> None:
    nominal = [chosen(0, BEFORE, 9.0), *(step_done(step) for step in range(1, 9))]
    assert compare(nominal, fewest=2) == []
    assert compare(run(), fewest=3) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_can_be_run(name: str) -> None:
    layout = LAYOUTS[name]
    assert {sum(split) for split in layout.splits} == {len(layout.weights)}
    assert len(layout.splits) <= MICRO_BATCHES
    workers = sum(map(len, layout.splits))
    assert all(worker < workers for worker in layout.lost)
    assert [Fault.parse(text).target for text in layout.job(0.5)["faults"]] == list(layout.lost)


def drill() -> list[Event]:
    """A fault at 2.5 s, noticed at 2.7 s, the step committed at 3.9 s."""
    rows = [("F 0:2 m0", 0.0, 0.1), ("REDUCE 0", 0.4, 0.5), ("REDUCE 1", 0.5, 0.6)]
    old = Timeline(time_s=2.0, step=2, worker=0, began_s=1.0, rows=rows, peak_bytes=0)
    new = Timeline(time_s=3.9, step=3, worker=0, began_s=3.1, rows=rows, peak_bytes=0)
    late = Timeline(time_s=3.9, step=3, worker=2, began_s=3.3, rows=rows, peak_bytes=0)
    return [
        chosen(0, BEFORE, 1.0),
        step_done(1, 0, time_s=1.0),
        old,
        step_done(2, 0, time_s=2.0),
        FaultInjected(time_s=2.5, fault="crash w1 at step 3", worker=1, step=3, action="B"),
        step_done(3, 1, time_s=3.9),
        recovered(3.9),
        new,
        late,
    ]


def test_the_times_of_a_recovery_are_between_its_moments() -> None:
    found = latency(drill())
    assert found.detect_s == pytest.approx(0.2)
    assert found.action_s == pytest.approx(0.4)
    assert found.reduce_s == pytest.approx(0.9)
    assert found.faulted_s == pytest.approx(1.9)
    assert found.pause_s == pytest.approx(1.9 - 1.0 - 0.3)
    assert (found.redone, found.later_s) == (2, 0.0)


@pytest.mark.parametrize("kind", [FaultInjected, Recovered])
def test_a_run_that_is_no_drill_is_noticed(kind: type[Event]) -> None:
    with pytest.raises(UnlikeError):
        latency([event for event in drill() if not isinstance(event, kind)])


def test_a_drill_without_a_reduction_behind_it_is_noticed() -> None:
    with pytest.raises(UnlikeError, match="reduced"):
        latency([event for event in drill() if not isinstance(event, Timeline)])


def test_faults_go_round_workers_and_points() -> None:
    faults = [fault_of("stop", drill) for drill in range(4 * len(POINTS))]
    assert len(set(faults)) == len(faults)
    assert {Fault.parse(text).target for text in faults} == {0, 1, 2, 3}


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 201)]
    assert quantile(values, 0.99) == 198.0
    assert quantile(values, 0.5) == 100.0
    assert quantile([3.0], 0.99) == 3.0
