"""Thousands of seeded fault schedules: up to all holders of a stage but one, at any time.

Workers are lost at any point, several at once, in the middle of a recovery, in the recovery of a
recovery; the controller is lost between any two of its own points; messages take random times;
any answer that could be given is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest

from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.program import Reduce
from ithaca.runtime.engine.machine import StepMachine, Wires
from ithaca.runtime.engine.steps import Request
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.fault_schedules import Case, any_answer, assert_no_trace, best, case, start
from tests.helpers.virtual_run import Faults, Phase, VirtualRun

PARTS, EACH = 16, 320
"""5,120 schedules, in parts that test processes can share."""
LAYOUTS = [(2, 2), (2, 2, 2), (3, 3), (1, 1, 1), (3, 2), (2, 1), (2, 2, 1)]


def random_case(rng: Random) -> Case:
    """A layout with two or three holders of every layer."""
    return case(
        rng.choice(LAYOUTS),
        rng.choice(list(Schedule)),
        steps=rng.choice([2, 3, 4]),
        micro_batches=rng.choice([4, 6]),
        ties=rng.choice([(), (), ((0, 5),)]),
    )


class RandomFaults(Faults):
    """Kills at random, but never the last holder of a layer.

    Attributes:
        struck: what happened where.
    """

    def __init__(self, rng: Random, plan: Plan) -> None:
        super().__init__(self._point, self._phase, self._restart)
        self.struck: Counter[str] = Counter()
        self._rng = rng
        self._often = rng.choice([0.002, 0.01, 0.03])
        self._spares = rng.choice([1, 1, 2, 3])
        self.run: VirtualRun | None = None  # type: ignore[type-arg]

    def _may_lose(self, worker: int) -> bool:
        """Whether every layer has another holder that is not about to be lost."""
        assert self.run is not None
        if self._spares == 0:
            return False
        return self.run.spares(worker)

    def _lose(self, worker: int, where: str) -> bool:
        if self._rng.random() < self._often and self._may_lose(worker):
            self._spares -= 1
            self.struck[where] += 1
            return True
        return False

    def _point(self, worker: int, step: int, request: Request) -> Verdict:
        assert self.run is not None
        if worker in self.run.dead:
            return Verdict.GO_ON
        return Verdict.KILL if self._lose(worker, type(request).__name__) else Verdict.GO_ON

    def _phase(self, at: Phase, there: tuple[int, ...]) -> frozenset[int]:
        self._often = max(self._often, 0.1)
        lost: frozenset[int] = frozenset()
        for worker in there:
            if not lost and self._lose(worker, at.value):
                lost = frozenset({worker})
        return lost

    def _restart(self, at: Phase) -> bool:
        if self._rng.random() < 0.05:
            self.struck[f"controller {at.value}"] += 1
            return True
        return False


def disturbed(seed: int) -> tuple[Case, VirtualRun, RandomFaults]:  # type: ignore[type-arg]
    """The run of a seed, to be run."""
    rng = Random(seed)
    job = random_case(rng)
    faults = RandomFaults(rng, job.plan)
    answer = best if rng.random() < 0.03 else any_answer(rng)
    run = start(job, faults, rng, answer)
    faults.run = run
    return job, run, faults


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_leaves_a_trace(part: int) -> None:
    struck: Counter[str] = Counter()
    recoveries = 0
    for seed in range(part * EACH, (part + 1) * EACH):
        job, run, faults = disturbed(seed)
        run.run(job.steps)
        assert_no_trace(run, job)
        assert run.rollbacks == 0
        struck += faults.struck
        recoveries += run.recoveries
    assert recoveries > EACH / 4
    assert {"Before", "After"} <= struck.keys(), struck


def _caught(seeds: range) -> bool:
    for seed in seeds:
        job, run, _ = disturbed(seed)
        try:
            run.run(job.steps)
            assert_no_trace(run, job)
        except (AssertionError, RuntimeError, ValueError, KeyError):
            return True
    return False


def test_a_vote_before_the_reduction_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: our code, changed so that it votes although it has not reduced."""
    reduce = StepMachine.reduce

    def hasty(self: StepMachine, action: Reduce) -> object:
        for layer in action.layers:
            self.reduced[layer] = [t.clone().zero_() for t in self.templates(layer)]
        return (yield from reduce(self, action))

    monkeypatch.setattr(StepMachine, "reduce", hasty)
    assert _caught(range(200))


def test_a_lost_contribution_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: what a survivor has summed is believed to be there, and is not."""
    rewire = StepMachine.rewire

    def forgetful(self: StepMachine, wires: Wires, layers: Iterable[int]) -> None:
        rewire(self, wires, layers)
        self.values.clear()

    monkeypatch.setattr(StepMachine, "rewire", forgetful)
    assert _caught(range(200))
