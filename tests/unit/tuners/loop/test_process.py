"""A process of a search in this process: trainings, pauses, copies, targets, and what fails."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ithaca.runtime.config.recipe import Recipe
from ithaca.tuners.loop import process as process_module
from ithaca.tuners.loop.files import StateFiles
from ithaca.tuners.loop.orders import Outcome, Run
from ithaca.tuners.loop.process import TrialProcess
from ithaca.tuners.loop.state import Snapshot
from ithaca.tuners.loop.training import TrialTraining
from ithaca.tuners.trial import Failure

JOB = """
name: tiny
steps: 8
workload:
  use: lm
  dim: 16
  num_layers: 1
  num_heads: 2
  context: 16
  batch_size: 2
  data: {source: python, max_bytes: 100000}
layout: {pipelines: 1, stages: 1, micro_batches: 2}
validation: {batches: 1}
"""


@pytest.fixture(scope="module")
def first() -> Run:
    """The first four steps of a small job."""
    return Run(0, 1, Recipe("job.yaml", JOB), 0, 4, None, True, 1e9, 1)


def training(run: Run) -> TrialTraining:
    """Of the same job, without a search."""
    loaded = run.job.load()
    return TrialTraining(0, loaded.job, loaded.workload_config)


class Pair:
    """Two processes that send each other states, and write them to a folder if one is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.sent: list[tuple[int, int]] = []
        self.refuse = 0
        files = None if folder is None else StateFiles(folder)
        self.processes = [TrialProcess(number, 1, self.send, files) for number in range(2)]

    def send(self, number: int, state: Snapshot) -> None:
        """To the other one."""
        if self.refuse:
            self.refuse -= 1
            raise OSError("gone")
        self.sent.append((number, state.step))
        self.processes[number].keep(state)


def outcome(process: TrialProcess) -> Outcome:
    """The end of what runs."""
    for _ in range(600):
        look = process.look(wait_s=0.1)
        if look.outcome is not None:
            process.look((look.outcome.trial, look.outcome.run))
            return look.outcome
    pytest.fail("the run does not end")


def test_a_trial_goes_on_in_the_other_process_with_the_same_bits(first: Run) -> None:
    pair = Pair()
    assert pair.processes[0].begin(first, None)
    paused = outcome(pair.processes[0])
    assert pair.sent == [(1, 4)]
    assert pair.processes[1].look(wait_s=0).kept == {0: 4}
    assert pair.processes[1].begin(replace(first, run=2, first=4, last=8, partner=0), None)
    ended = outcome(pair.processes[1])
    alone = training(first)
    losses = [alone.train() for _ in range(8)]
    assert (*paused.losses, *ended.losses) == tuple(losses)
    assert ended.hash == alone.give().hash()
    assert ended.value == alone.validate()


def test_copies_are_made_while_a_trial_runs(first: Run) -> None:
    pair = Pair()
    pair.processes[0].begin(replace(first, replicate_s=0.0, last=8), None)
    outcome(pair.processes[0])
    assert len(pair.sent) > 1
    assert pair.sent[-1] == (1, 8)
    assert [step for _, step in pair.sent] == sorted(step for _, step in pair.sent)


def test_a_pause_waits_for_a_process_that_takes_the_state(
    first: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_TRY_S", 0.01)
    pair = Pair()
    pair.refuse = 1
    pair.processes[0].begin(first, None)
    while pair.refuse:
        time.sleep(0.01)
    pair.processes[0].partner(1)
    assert outcome(pair.processes[0]).value is not None
    assert pair.sent == [(1, 4)]


def test_a_busy_process_and_a_missing_state_are_refused(first: Run) -> None:
    pair = Pair()
    assert not pair.processes[0].begin(replace(first, first=2), None)
    assert pair.processes[0].begin(first, None)
    assert not pair.processes[0].begin(replace(first, trial=3), None)
    outcome(pair.processes[0])


def test_time_targets_and_errors_are_told(first: Run) -> None:
    process = Pair().processes[0]
    process.begin(replace(first, limit_s=0.0), None)
    assert outcome(process).failure is Failure.TIME
    process.begin(replace(first, validate=False, target=1e9, last=8), None)
    reached = outcome(process)
    assert reached.step == 5
    assert reached.value is not None
    process.begin(replace(first, validate=False, target=0.0), None)
    assert "a loss of 0 was not reached in 4 steps" in outcome(process).reason
    broken = replace(first.job, overrides=("optimizer.lr=1e38",))
    process.begin(replace(first, job=broken), None)
    assert outcome(process).failure is Failure.NOT_A_NUMBER
    refused = replace(first.job, overrides=("workload.num_heads=3",))
    process.begin(replace(first, job=refused), None)
    told = outcome(process)
    assert told.failure is Failure.ERROR
    assert "num_heads" in told.reason
    assert "Traceback" not in told.reason


def test_states_that_nobody_needs_are_dropped(first: Run) -> None:
    pair = Pair()
    pair.processes[0].begin(first, None)
    outcome(pair.processes[0])
    pair.processes[1].drop((0,))
    assert pair.processes[1].look(wait_s=0).kept == {}
    assert pair.processes[0].send(0, 1)
    assert pair.processes[1].look(wait_s=0).kept == {0: 4}
    assert not pair.processes[0].send(7, 1)


def test_a_trial_goes_on_from_the_disk_where_all_processes_were_lost(
    first: Run, tmp_path: Path
) -> None:
    pair = Pair(tmp_path / "states")
    pair.processes[0].begin(first, None)
    paused = outcome(pair.processes[0])
    assert paused.unsaved == ""
    fresh = Pair(tmp_path / "states")
    assert fresh.processes[1].look(wait_s=0).kept == {}
    assert not fresh.processes[1].begin(replace(first, run=2, first=3, last=8, partner=0), None)
    assert fresh.processes[1].begin(replace(first, run=2, first=4, last=8, partner=0), None)
    ended = outcome(fresh.processes[1])
    alone = training(first)
    assert (*paused.losses, *ended.losses) == tuple(alone.train() for _ in range(8))
    assert ended.hash == alone.give().hash()


def test_a_disk_that_takes_nothing_is_told_and_stops_nothing(first: Run, tmp_path: Path) -> None:
    (tmp_path / "states").write_text("no folder")
    pair = Pair(tmp_path / "states")
    pair.processes[0].begin(first, None)
    ended = outcome(pair.processes[0])
    assert ended.value is not None
    assert "states" in ended.unsaved
    assert pair.sent == [(1, 4)]
