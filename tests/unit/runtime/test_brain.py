"""The brain: what the run has shown so far goes into its next decisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ithaca.recovery.decide import Decision
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.forecast import forecast
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Situation
from ithaca.runtime import brain as brain_module
from ithaca.runtime.brain import ENTRIES, Brain
from tests.helpers.fake_crew import Bench

STEPS, DONE = 20, 3
PHASES = {"detect": 9.0, "wake": 0.1, "decide": 0.2, "rebuild": 0.3, "move": 9.0, "first_step": 9.0}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


def situation(bench: Bench) -> Situation:
    plan = bench.mission.plan
    held = {w: Standing(w, 0, DONE, frozenset(plan.held(w))) for w in plan.workers}
    return bench.brain.situation(plan, held, frozenset(), frozenset(), None)


def test_how_much_is_left_is_known(bench: Bench) -> None:
    assert situation(bench).steps_left == STEPS - DONE


def test_a_meeting_takes_what_it_took(bench: Bench) -> None:
    guessed = situation(bench).regroup_s
    assert guessed > 0
    for factor in (1.0, 1.0, 50.0):
        bench.brain.recovered({name: factor * value for name, value in PHASES.items()})
    assert situation(bench).regroup_s == pytest.approx(0.6)


def test_steps_that_take_longer_than_predicted_leave_more_time(bench: Bench) -> None:
    plan = bench.mission.plan
    predicted_s = forecast(plan, situation(bench)).step_s
    bench.brain.watch(plan, 7 * predicted_s)
    assert situation(bench).slowness == 1.0  # one step is no sign
    for seconds in (7, 7, 7, 500, 7):
        bench.brain.watch(plan, seconds * predicted_s)
    assert situation(bench).slowness == pytest.approx(7.0)
    bench.brain.entered(plan)
    assert situation(bench).slowness == pytest.approx(7.0)  # until the new plan shows its own


def test_a_plan_is_worn_until_somebody_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    worn: list[list[object]] = []

    def note(_decision: Decision, _situation: Situation, plans: list[object]) -> None:
        worn.append(list(plans))

    monkeypatch.setattr(brain_module, "reconsidered", note)
    brain: Brain = bench.brain
    for _ in range(ENTRIES):
        brain.reconsider(situation(bench))
        brain.entered(bench.mission.plan)
    brain.reconsider(situation(bench))
    brain.happened([Failure(FailureClass.CRASH, 1, "a")])
    brain.reconsider(situation(bench))
    assert [len(plans) for plans in worn] == [0] * ENTRIES + [1, 0]
