"""Lost controllers, replaced and leaving workers, and nothing to go back to: same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import load
from ithaca.runtime.crew import Crew
from ithaca.runtime.events import (
    ControllerRestarted,
    Recovered,
    RunEnded,
    WorkerFailed,
    WorkerJoined,
    WorkerLeft,
)
from tests.helpers.drill_pool import Pool
from tests.helpers.driven import BOUND_S, ROOT, STEADY, Driven, state, until
from tests.helpers.real_job import run_job, write_job

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(420)]

Start = Callable[..., Driven]


@pytest.fixture
def start(tmp_path: Path, ray_cluster: Cluster) -> Iterator[Start]:
    """Starts runs on the one cluster, each in a folder of its own; what they leave is killed."""
    runs: list[Driven] = []

    def begin(*words: str, **changes: object) -> Driven:
        on = {"cluster": {"address": ray_cluster.address}}
        runs.append(Driven(tmp_path / str(len(runs)), *words, **on, **changes))
        return runs[-1]

    yield begin
    for run in runs:
        run.clean_up()


@pytest.fixture(scope="module")
def reference(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """State hashes of the undisturbed run, on one worker."""
    return alone(crew, tmp_path_factory.mktemp("reference"))


def alone(crew: Crew, folder: Path, **changes: object) -> dict[int, str]:
    """State hashes of the job on one worker that is there already."""
    job = {**STEADY, "layout": {"pipelines": 1, "stages": 1}, **changes}
    return dict(run_job(crew, folder / "run", **job).trace.states)


def same(run: Driven, reference: dict[int, str]) -> None:
    """The oracle: the undisturbed state after every step."""
    states = run.states()
    assert states == {step: reference[step] for step in states}
    steps = run.events(RunEnded)[0].step
    assert max(states) == steps
    assert len(states) >= steps - 1


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_training_goes_on_while_the_controller_is_replaced(
    start: Start, reference: dict[int, str], kind: signal.Signals
) -> None:
    run = start()
    until(lambda: run.step >= 20, "training")
    (controller,) = run.controllers()
    os.kill(controller, kind)
    until(lambda: bool(run.events(ControllerRestarted)), "the next controller")
    run.enough()
    assert [event.incarnation for event in run.events(ControllerRestarted)] == [1]
    assert run.events(WorkerLeft) == []
    same(run, reference)


def test_a_fault_while_the_controller_is_replaced_waits_for_it(
    start: Start, reference: dict[int, str]
) -> None:
    run = start(recovery={"replace": False})
    until(lambda: run.step >= 20, "training")
    (controller,) = run.controllers()
    os.kill(controller, signal.SIGKILL)
    os.kill(run.pids()[3], signal.SIGKILL)
    until(lambda: bool(run.events(WorkerLeft)), "an answer by the next controller")
    run.enough()
    assert len(run.events(ControllerRestarted)) == 1
    assert [event.worker for event in run.events(WorkerLeft)] == [3]
    same(run, reference)


def test_a_new_worker_takes_the_place_of_a_lost_one(
    start: Start, reference: dict[int, str]
) -> None:
    run = start(steps=100_000)
    until(lambda: run.step >= 20, "training")
    os.kill(run.pids()[1], signal.SIGKILL)
    until(lambda: run.plan_names(4), "the new worker's part")
    run.enough()
    assert [event.worker for event in run.events(WorkerJoined)] == [0, 1, 2, 3, 4]
    states = {step: hash_ for step, hash_ in run.states().items() if step in reference}
    assert states == {step: reference[step] for step in states}
    assert len(states) >= 20


def test_a_worker_that_is_asked_to_leave_leaves_behind_a_step(
    start: Start, reference: dict[int, str]
) -> None:
    run = start(recovery={"replace": False}, steps=200)
    until(lambda: run.step >= 20, "training")
    pid = run.pids()[2]
    command = [sys.executable, "-m", "ithaca", "drain", str(run.folder), "--worker", "2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    subprocess.run(command, check=True, timeout=BOUND_S, env=environment, cwd=ROOT)
    run.finished()
    (left,) = run.events(WorkerLeft)
    assert (left.worker, left.reason) == (2, "it was asked to leave")
    assert [event.redone_micro_batches for event in run.events(Recovered)][:1] == [0]
    assert state(pid) in ("", "Z")
    same(run, reference)


def test_without_a_holder_and_a_checkpoint_the_run_ends_with_the_reason(
    pool: Pool, tmp_path: Path
) -> None:
    changes = {**STEADY, "layout": {"pipelines": 1, "stages": 2, "micro_batches": 8}}
    path = write_job(tmp_path, drills=True, faults=["crash w1 at step 5 before F"], **changes)
    events = pool.run(load(path), tmp_path / "run")
    (failed,) = [event for event in events if isinstance(event, WorkerFailed)]
    assert failed.worker == 1
    end = events[-1]
    assert isinstance(end, RunEnded)
    assert end.outcome == "failed"
    assert "nobody holds layers" in end.reason
    assert "no checkpoint" in end.reason


def test_the_oracle_sees_another_seed(
    crew: Crew, reference: dict[int, str], tmp_path: Path
) -> None:
    states = alone(crew, tmp_path, seed=6, steps=2)
    assert len(states) == 2
    assert states != {step: reference[step] for step in states}
