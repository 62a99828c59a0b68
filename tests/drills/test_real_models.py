"""Layers with autograd, dropout, experts, shared weights, bf16 and AdamW lose workers: no trace."""

from __future__ import annotations

from random import Random

import pytest
import torch

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.runtime.engine.steps import Request
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.fault_schedules import any_answer
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import BF16, EXACT, FAST, layout
from tests.helpers.virtual_run import Faults, VirtualRun

STEPS, MICRO_BATCHES, LAYERS = 3, 4, 6
DENSE = Options()
MIXED = Options(kinds=("block", "experts", "pair", "unpair"), tied=True)
RAGGED = Options(kinds=("block", "slice", "block", "nothing"), ragged=True)
PROFILE = Profile(tuple(Layer(str(i), 9, 9, 9, 9, 9, 1e-3, 2e-3) for i in range(LAYERS)))
MODELS = [
    pytest.param(DENSE, EXACT, id="dense"),
    pytest.param(MIXED, EXACT, id="experts-tied"),
    pytest.param(RAGGED, EXACT, id="ragged"),
    pytest.param(MIXED, BF16, id="experts-tied-bf16"),
]


def start(
    options: Options,
    settings: EngineSettings,
    stages: tuple[int, ...],
    schedule: Schedule,
    rng: Random,
) -> VirtualRun[Trainer]:
    """A run of a small model that has not begun."""
    workload = Small(options, seed=3, micro_batches=MICRO_BATCHES)
    ties = tuple(Trainer(workload, settings, ()).holdings.model.pairs())
    return VirtualRun(
        lambda _, layers: Trainer(workload, settings, layers),
        layout(LAYERS, stages, MICRO_BATCHES, schedule),
        PROFILE,
        ties=ties,
        split=(True,) * LAYERS,
        hashes=lambda trainer: {i: held.hash() for i, held in trainer.holdings.layers.items()},
        choose=any_answer(rng, PROFILE),
    )


def undisturbed(options: Options, settings: EngineSettings) -> VirtualRun[Trainer]:
    """On one worker."""
    whole = start(options, settings, (1,), Schedule.GPIPE, Random(0))
    whole.run(STEPS)
    return whole


def disturbed(options: Options, settings: EngineSettings, seed: int) -> VirtualRun[Trainer]:
    """Two workers are lost, at different times; every layer keeps a holder."""
    rng = Random(seed)
    stages = rng.choice([(2, 2), (2, 2, 2), (3, 2), (1, 2)])
    run = start(options, settings, stages, rng.choice(list(Schedule)), rng)
    left = [rng.randrange(20, 160), rng.randrange(10, 120)]

    def watch(worker: int, _step: int, _request: Request) -> Verdict:
        if left and run.spares(worker):
            left[0] -= 1
            if left[0] == 0:
                left.pop(0)
                return Verdict.KILL
        return Verdict.GO_ON

    run.faults = Faults(point=watch)
    with torch.random.fork_rng():
        run.run(STEPS)
    return run


@pytest.mark.parametrize(("options", "settings"), MODELS)
def test_losses_leave_no_trace(options: Options, settings: EngineSettings) -> None:
    whole = undisturbed(options, settings)
    recoveries = 0
    for seed in range(8):
        run = disturbed(options, settings, seed)
        assert run.results == whole.results
        assert run.tallies == whole.tallies
        recoveries += run.recoveries
    assert recoveries >= 8


def test_fast_numerics_do_leave_a_trace() -> None:
    """Control: plain all-reduce depends on who computed what."""
    whole = undisturbed(DENSE, FAST)
    runs = [disturbed(DENSE, FAST, seed) for seed in range(6)]
    assert any(run.results != whole.results for run in runs)


def test_a_false_alarm_leaves_no_trace_either() -> None:
    whole = undisturbed(DENSE, EXACT)
    for stop in range(5, 200, 25):
        run = start(DENSE, EXACT, (2, 2), Schedule.ONE_F_ONE_B, Random(stop))
        seen = [0]

        def watch(
            _worker: int, _step: int, _request: Request, seen: list[int] = seen, stop: int = stop
        ) -> Verdict:
            seen[0] += 1
            return Verdict.STOP if seen[0] == stop else Verdict.GO_ON

        run.faults = Faults(point=watch, stops=True)
        run.run(STEPS)
        assert run.recoveries == 1
        assert run.results == whole.results
