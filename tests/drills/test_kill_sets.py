"""Every set of at most two workers is lost, together and one after the other."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from ithaca.runtime.engine.steps import Before, Request
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.fault_schedules import Case, assert_no_trace, best, case, killer, start
from tests.helpers.virtual_run import Faults, Lost, Phase

CASES = [
    pytest.param(case((2, 2)), id="2x2"),
    pytest.param(case((3,)), id="1x3"),
    pytest.param(case((1, 1, 1)), id="3x1"),
    pytest.param(case((3, 2)), id="3+2"),
    pytest.param(case((2, 2, 2), micro_batches=6), id="3x2"),
    pytest.param(case((3, 3)), id="2x3"),
]
SETS = [
    pytest.param(param.values[0], lost, id=f"{param.id}-{'-'.join(map(str, lost))}")
    for param in CASES
    for size in (1, 2)
    for lost in combinations(param.values[0].plan.workers, size)  # type: ignore[union-attr]
]
PAIRS = [each for each in SETS if len(each.values[1]) == 2]  # type: ignore[arg-type]
MOMENTS = 4


def together(lost: tuple[int, ...], number: int) -> Faults:
    """All of ``lost`` are killed when the first of them comes to its point ``number``."""
    first = killer(lost[0], number)
    struck = False

    def watch(worker: int, step: int, request: Request) -> Verdict:
        nonlocal struck
        struck |= first(worker, step, request) is Verdict.KILL
        return Verdict.KILL if struck and worker in lost else Verdict.GO_ON

    def phase(at: Phase, there: tuple[int, ...]) -> frozenset[int]:
        # One of them may have waited for a message when the other one went: it goes now.
        return frozenset(lost).intersection(there) if struck and at is Phase.STAND else frozenset()

    return Faults(point=watch, phase=phase)


@pytest.mark.parametrize(("job", "lost"), SETS)
def test_together(job: Case, lost: tuple[int, ...]) -> None:
    rng = Random(str(lost))
    for _ in range(MOMENTS):
        run = start(job, together(lost, rng.randrange(1, 90)), rng, best)
        run.run(job.steps)
        assert_no_trace(run, job)
        alone = [layer for layer in range(6) if set(job.plan.holders(layer)) <= set(lost)]
        assert bool(run.rollbacks) == (bool(alone) and run.recoveries > 0)


@pytest.mark.parametrize(("job", "lost"), PAIRS)
def test_the_second_while_the_first_is_answered(job: Case, lost: tuple[int, ...]) -> None:
    for at in Phase:
        first, second = lost
        rng = Random(f"{lost} {at}")
        watch = killer(first, rng.randrange(1, 60))

        def phase(
            now: Phase, there: tuple[int, ...], at: Phase = at, second: int = second
        ) -> frozenset[int]:
            return frozenset({second}).intersection(there) if now is at else frozenset()

        run = start(job, Faults(point=watch, phase=phase), rng, best)
        run.run(job.steps)
        assert_no_trace(run, job)


def test_everybody() -> None:
    job = case((2, 2))
    run = start(job, together((0, 1, 2, 3), 10), choose=best)
    with pytest.raises(Lost, match="nobody"):
        run.run(job.steps)


def test_without_a_checkpoint_the_reason_names_the_layers() -> None:
    job = case((2, 2))

    def watch(worker: int, step: int, request: Request) -> Verdict:
        both = step == 1 and worker in (1, 3) and isinstance(request, Before)
        return Verdict.KILL if both else Verdict.GO_ON

    run = start(job, Faults(point=watch), choose=best)
    run.save_every = 1000
    run._checkpoints = {}
    run._save = lambda _: None  # type: ignore[method-assign, assignment]
    with pytest.raises(Lost, match=r"layers? 3"):
        run.run(job.steps)
