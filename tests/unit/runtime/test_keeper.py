"""The keeper: one checkpoint at a time, none for nothing, and a true word when one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.runtime.events import CheckpointWritten, Event, StepDone, Warned
from ithaca.runtime.keeper import Keeper
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.mission import Mission
from ithaca.runtime.orders import NotSaved, Saved
from ithaca.runtime.writers import writer_of
from tests.helpers.fake_crew import mission as mission_of
from tests.helpers.step_done import step_done

EVERY, STEPS = 5, 20


def done(step: int) -> tuple[StepDone, Ledger]:
    return step_done(step), Ledger(step, (), 8 * step)


class Bench:
    """A keeper whose writers are asked and answer when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.mission: Mission = mission_of(folder, 0, checkpoint={"every": EVERY})
        self.asked: list[tuple[int, int]] = []
        self.events: list[Event] = []
        self.keeper = Keeper(
            self.mission, lambda worker, step, _: self.asked.append((worker, step)),
            self.events.append,
        )  # fmt: skip

    def train(self, steps: range) -> None:
        for step in steps:
            self.keeper.done(*done(step))
            self.keeper.go_on()

    def fail(self, step: int) -> None:
        """One of the writers that were asked last says no; the others say nothing."""
        self.keeper.take(step, self.asked[-1][0], NotSaved("No space left on device"))

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_step_that_is_due_is_asked_for_once_of_every_writer(bench: Bench) -> None:
    bench.train(range(1, EVERY))
    assert bench.asked == []
    assert not bench.keeper.busy
    bench.train(range(EVERY, EVERY + 1))
    plan, names = bench.mission.plan, bench.mission.names
    writers = {writer_of(plan, layer) for layer in range(len(names))}
    assert sorted(bench.asked) == sorted((worker, EVERY) for worker in writers)
    bench.keeper.go_on()
    bench.keeper.done(*done(EVERY))
    bench.keeper.go_on()
    assert len(bench.asked) == len(writers)


def test_while_one_is_written_only_the_newest_other_one_waits(bench: Bench) -> None:
    bench.train(range(1, 3 * EVERY + 1))
    assert {step for _, step in bench.asked} == {EVERY}
    bench.fail(EVERY)
    bench.keeper.go_on()
    assert {step for _, step in bench.asked} == {EVERY, 3 * EVERY}


def test_one_that_fails_in_the_middle_costs_nothing_but_itself(bench: Bench) -> None:
    bench.train(range(1, EVERY + 1))
    bench.fail(EVERY)
    assert bench.keeper.step is None
    assert not bench.keeper.busy
    (said,) = bench.warnings
    assert said.endswith("No space left on device; training goes on")


def test_at_the_end_nobody_says_that_training_goes_on(bench: Bench) -> None:
    bench.train(range(STEPS, STEPS + 1))
    bench.fail(STEPS)
    ledger = done(STEPS)[1]
    for left in (2, 1, 0):
        bench.keeper.last(STEPS, ledger, left)
        bench.keeper.go_on()
        bench.fail(STEPS)
    endings = [said.rpartition("; ")[2] for said in bench.warnings]
    assert endings == ["it is tried again"] * 3 + ["no further try is made"]


def test_the_end_of_a_drained_run_is_an_end_too(bench: Bench) -> None:
    bench.train(range(1, 4))
    bench.keeper.last(3, done(3)[1], 2)
    bench.keeper.go_on()
    bench.fail(3)
    assert bench.warnings[-1].endswith("it is tried again")


def test_the_end_is_not_saved_twice_at_once(bench: Bench) -> None:
    bench.keeper.last(3, done(3)[1])
    bench.keeper.go_on()
    asked = list(bench.asked)
    bench.keeper.last(3, done(3)[1])
    bench.keeper.go_on()
    assert bench.asked == asked


def test_under_another_plan_what_is_unfinished_is_given_up_and_said(bench: Bench) -> None:
    bench.train(range(1, EVERY + 1))
    bench.keeper.change(bench.mission.plan)
    assert not bench.keeper.busy
    assert "its writers got another plan" in bench.warnings[-1]
    bench.keeper.take(EVERY, 0, Saved((), {}))  # too late, and told nobody
    assert not any(isinstance(event, CheckpointWritten) for event in bench.events)


def test_what_lies_behind_a_rollback_is_not_taken_for_newer(bench: Bench) -> None:
    bench.train(range(1, EVERY + 1))
    assert bench.keeper.find() is None
    bench.keeper.know(None)
    assert bench.keeper.step is None
