"""Memory changes and nobody looks: only that other holders have something else tells.

At every point of a step one worker's weights are changed. What it computes from then on goes into
everybody's gradients; so whoever differs is expelled, and all go back to before. Votes are counted
by the recorder of a real run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from ithaca.planner.plan import Plan
from ithaca.recovery.orders import Orders
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Situation
from ithaca.runtime.engine.steps import Request
from ithaca.runtime.engine.virtual import Verdict
from ithaca.runtime.events import LayersHashed, StateHashed
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.mission import Mission
from ithaca.runtime.recorder import Recorder, ReplicasDifferError
from tests.drills.test_every_point import points
from tests.helpers.fault_schedules import (
    LAYERS,
    PROFILE,
    SPLIT,
    Case,
    assert_no_trace,
    case,
    steady,
)
from tests.helpers.toy_stepper import ToyStepper
from tests.helpers.virtual_run import Faults, Lost, VirtualRun

STEP = 1


class DifferRun(VirtualRun[ToyStepper]):
    """A run whose hashes are compared as they come, and which answers a difference."""

    trusts = False
    """The control: what survivors hold is believed."""

    def begin(self) -> None:
        mission = SimpleNamespace(
            names=tuple(map(str, range(LAYERS))), profile=PROFILE, plan=self.plan, programs={}
        )
        self.error: ReplicasDifferError | None = None
        self.expelled: set[int] = set()
        self._trusted: int | None = None
        self.recorder = Recorder(
            cast("Mission", mission), self._agreed, Ledger(), lambda *_: None, self._differ,
            lambda _: None, lambda _: None, lambda _: 0.0,
        )  # fmt: skip

    def _differ(self, error: ReplicasDifferError) -> None:
        self.error = error

    def _agreed(self, event: object) -> None:
        assert isinstance(event, StateHashed)
        self.results[event.step] = {int(name): value for name, value in event.layers.items()}

    def _note(self, worker: int) -> None:
        stepper = self.steppers[worker]
        self._save(stepper)
        if stepper.step == 0 or not stepper.held():
            return
        hashes = {str(layer): value for layer, value in self.hashes(stepper).items()}
        event = LayersHashed(
            time_s=0.0, step=stepper.step, worker=worker, hashes=hashes,
            generation=self._generation,
        )  # fmt: skip
        self.recorder.take(worker, [event.to_json()])
        if stepper.tally is not None:
            self.tallies[stepper.step] = replace(stepper.tally, pause=False)

    def _live(self, orders: Mapping[int, Orders], steps: int) -> bool:
        self.recorder.change(next(iter(orders.values())).plan, {})
        return super()._live(orders, steps) and self.error is None

    def _recover(self) -> dict[int, Orders]:
        error, self.error = self.error, None
        assert error is not None, "nothing else goes wrong"
        if not error.workers:
            raise Lost(str(error))
        self.expelled |= error.workers
        if not self.trusts:
            self._trusted = error.agreed
            saved = self._checkpoints.items()
            self._checkpoints = {step: each for step, each in saved if step <= error.agreed}
        self._kill(error.workers)
        return super()._recover()

    def _situation(self, standings: Mapping[int, Standing]) -> Situation:
        situation = super()._situation(standings)
        if self._trusted is None:
            return situation
        return replace(situation, holdings=dict.fromkeys(standings, frozenset()))

    def _roll_back(self, plan: Plan, step: int) -> dict[int, Orders]:
        self._trusted = None
        self.recorder.back_to(Ledger(step, (), 0), self._generation)
        return super()._roll_back(plan, step)


def flipped(job: Case, worker: int, number: int, layer: int) -> DifferRun:
    """A run in which the weights of ``worker`` change at its point ``number``."""
    seen = 0

    def watch(who: int, _step: int, _request: Request) -> Verdict:
        nonlocal seen
        seen += who == worker
        if who == worker and seen == number:
            run.steppers[worker].state(layer)["w0"].view(-1)[0] += 1.0
        return Verdict.STOP if run.error is not None else Verdict.GO_ON

    run = DifferRun(
        lambda _, layers: ToyStepper(layers), job.plan, PROFILE, Faults(point=watch, stops=True),
        ties=job.ties, split=SPLIT, choose=steady,
    )  # fmt: skip
    run.begin()
    return run


THREE = case((1, 1, 1), steps=4, micro_batches=6)
SIX = case((2, 2, 2), steps=4, micro_batches=6)


@pytest.mark.parametrize("job", [THREE, SIX], ids=["3x1", "3x2"])
@pytest.mark.parametrize("step", [0, STEP, 3])
def test_whoever_differs_goes_and_nothing_of_it_stays(job: Case, step: int) -> None:
    # Of the larger job every seventh point, so that all workers have their turn.
    for worker, number, request in points(job, step)[:: 1 if job is THREE else 7]:
        layer = job.plan.held(worker)[-1]
        run = flipped(job, worker, number, layer)
        run.run(job.steps)
        assert run.expelled == {worker}, request
        assert (run.recoveries, run.rollbacks) == (1, 1)
        assert_no_trace(run, job)


def test_of_two_nobody_can_tell() -> None:
    job = case((2, 2), steps=3)
    run = flipped(job, 1, 5, job.plan.held(1)[0])
    with pytest.raises(Lost, match=r"worker [13] holds .* and worker [13] holds"):
        run.run(job.steps)


def test_if_what_survivors_hold_were_believed_it_would_show() -> None:
    shown = 0
    for worker, number, _ in points(THREE, STEP)[::3]:
        run = flipped(THREE, worker, number, 0)
        run.trusts = True
        run.run(THREE.steps)
        try:
            assert_no_trace(run, THREE)
        except AssertionError:
            shown += 1
    assert shown
