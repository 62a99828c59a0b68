"""Steps of a job: what a NaN does, draining, validation, and what is refused."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.program import Op, Program
from ithaca.planner.span import Span
from ithaca.runtime.engine import layer_machine
from ithaca.runtime.engine.autograd import Trace, Trial, try_split
from ithaca.runtime.engine.interpreter import NotCommitted
from ithaca.runtime.engine.layer_machine import TURNS, NotFinite
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.workload import Batch, Value
from tests.helpers.small_models import KINDS, Options, Small
from tests.helpers.virtual_job import EXACT, VirtualJob, layout

OPTIONS = Options(kinds=("block", "experts"))
POISON = 97 + 2
"""The sample of step 1, micro-batch 2."""
SKIP = replace(EXACT, skip_not_finite=True)
LAYOUTS = [(1,), (2, 2)]


class Poisoned(Small):
    """The loss of one micro-batch is NaN, or the whole gradient of it infinite."""

    factor = float("nan")

    def loss(self, output: Value, batch: Batch) -> Tensor:
        loss = super().loss(output, batch)
        return loss * self.factor if batch.samples == (POISON,) else loss


class Overflowing(Poisoned):
    """A finite loss whose gradient overflows."""

    factor = 1e38


def job(
    kind: type[Small] = Small, settings: EngineSettings = EXACT, stages: tuple[int, ...] = (1,)
) -> VirtualJob:
    """A small job of four micro-batches."""
    return VirtualJob(kind(OPTIONS, seed=3, micro_batches=4), layout(4, stages, 4), settings)


@pytest.mark.parametrize("kind", [Poisoned, Overflowing])
@pytest.mark.parametrize("stages", LAYOUTS)
def test_a_step_that_is_not_finite_is_skipped(kind: type[Small], stages: tuple[int, ...]) -> None:
    sick, well = job(kind, SKIP, stages), job(Small, SKIP)
    assert sick.step() == well.step()
    before = sick.hashes()
    tally = sick.train()
    assert not tally.finite
    assert tally.committed
    assert tally.culprit
    assert sick.hashes() == before
    assert {trainer.step for trainer in sick.trainers.values()} == {2}, "it counts as a step"
    third = sick.step()
    well.trainers[0].step = 2
    assert third == well.step()


@pytest.mark.parametrize("kind", [Poisoned, Overflowing])
@pytest.mark.parametrize("stages", LAYOUTS)
def test_a_step_that_is_not_finite_stops_the_job(
    kind: type[Small], stages: tuple[int, ...]
) -> None:
    sick = job(kind, EXACT, stages)
    sick.step()
    before = sick.hashes()
    with pytest.raises(NotFinite, match=r"step 1: .*; no weight was changed"):
        sick.train()
    assert sick.hashes() == before
    assert {trainer.step for trainer in sick.trainers.values()} == {1}


def test_the_culprit_is_named() -> None:
    sick = job(Poisoned, SKIP, (2, 2))
    sick.train()
    assert sick.train().culprit == "the loss of micro-batch 2 is nan"


def test_a_no_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    here = job(stages=(2, 2))
    before = here.hashes()
    machine = Trainer._new_machine

    def against(trainer: Trainer, program: Program, training: bool) -> object:
        made = machine(trainer, program, training)
        made.ballot.vote = program.worker != 2
        return made

    monkeypatch.setattr(Trainer, "_new_machine", against)
    with pytest.raises(NotCommitted):
        here.train()
    assert here.hashes() == before
    assert {trainer.step for trainer in here.trainers.values()} == {0}


def test_one_worker_asked_to_stop_is_heard_by_all() -> None:
    here = job(stages=(2, 2))
    assert not here.train().drain
    here.trainers[3].drain()
    assert here.train().drain


def test_a_validation_changes_nothing_and_repeats() -> None:
    here = job(stages=(2,))
    here.train()
    before = here.hashes()
    found = [here._all(Trainer.validate, here.validation) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].norm == 0.0
    assert here.hashes() == before
    assert all(trainer.step == 1 for trainer in here.trainers.values())


def test_layers_are_split_only_where_a_check_allowed_it() -> None:
    text = "plan generation=0 schedule=1f1b-split\npipeline 0-3 0:2@w0 2:4@w1\n"
    workload = Small(OPTIONS, seed=3, micro_batches=4)
    split = VirtualJob(workload, Plan.parse(text))
    record = split.step()
    assert record == job().step()
    checked = {k: v for t in split.trainers.values() for k, v in t.holdings.splits.items()}
    assert checked == dict.fromkeys(range(4), True)


def test_without_a_channel_nothing_runs() -> None:
    trainer = Trainer(Small(OPTIONS, seed=3, micro_batches=4), EXACT, Span(0, 4))
    program = Program(0, 0, 4, 4, ())
    with pytest.raises(RuntimeError, match="no channel yet"):
        next(trainer.train_step(program))


def test_programs_without_a_commit_are_refused() -> None:
    here = job()
    program = here.programs[0]
    actions = [action for action in program.actions if str(action) != "COMMIT"]
    for cut, message in ((actions, "steps before it commits"), (actions[:-1], "never commits")):
        here.programs[0] = replace(program, actions=tuple(cut))
        with pytest.raises(ValueError, match=message):
            here.train()


def test_meters_note_every_compute() -> None:
    here = job(stages=(2,))
    here.train()
    noted = {key for trainer in here.trainers.values() for key in trainer.holdings.meter}
    assert {(op.value, layer) for op, layer in noted} >= {
        (op, layer) for op in "FB" for layer in range(4)
    }
    assert torch.get_num_threads() == 1


EVERY_KIND = Options(kinds=tuple(KINDS))


@pytest.mark.parametrize("options", [OPTIONS, EVERY_KIND], ids=["small", "every kind"])
@pytest.mark.parametrize("schedule", list(Schedule))
def test_a_backward_in_two_parts_beside_it_changes_no_bit(
    options: Options, schedule: Schedule
) -> None:
    workload = Small(options, seed=3, micro_batches=4)
    many = len(workload.layers())
    calm, probed = (VirtualJob(workload, layout(many, (2, 1), 4, schedule)) for _ in range(2))
    for turn in (*range(TURNS), None):
        for trainer in probed.trainers.values():
            trainer.probe(turn)
        assert probed.step() == calm.step()
    for trainer in probed.trainers.values():
        assert trainer.holdings.splits.keys() == trainer.held()


def test_the_parts_of_each_layer_are_timed_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(trace: Trace, gradients: list[Tensor], weights: list[Tensor]) -> Trial:
        return replace(try_split(trace, gradients, weights), seconds=(4.0, 3.0, 2.0))

    monkeypatch.setattr(layer_machine, "try_split", timed)
    here = job()
    (trainer,) = here.trainers.values()
    here.train()
    trainer.forget_times()
    for turn in range(3, 3 + TURNS):
        trainer.probe(turn)
        here.train()
        assert len(trainer.holdings.splits) == turn - 2, "one layer of four in each step"
    assert trainer.holdings.splits == dict.fromkeys(range(4), True)
    for layer in range(4):
        meter = {op.value: list(trainer.holdings.meter[op, layer]) for op in (Op.B, Op.I, Op.W)}
        assert (meter["I"], meter["W"]) == ([3.0], [2.0])
        assert len(meter["B"]) == 4 * TURNS, "one for each micro-batch and step"
        assert meter["B"].count(4.0) == 1
    trainer.probe(None)
    here.train()
    assert len(trainer.holdings.meter[Op.I, 0]) == 1


def test_of_two_times_the_lower_counts() -> None:
    here = job()
    (trainer,) = here.trainers.values()
    trainer.holdings.meter[Op.I, 0] = deque([9.0, 2.0])
    assert trainer.times()["embed"]["I"] == 2.0


def test_under_a_budget_no_history_is_kept_longer() -> None:
    here = job()
    (trainer,) = here.trainers.values()
    trainer.holdings.guard = lambda: nullcontext()  # as a memory session has one
    for turn in range(TURNS):
        trainer.probe(turn)
        here.train()
    assert trainer.holdings.splits == {}
