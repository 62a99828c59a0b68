"""The life of a run on real processes: drain, failures, damaged checkpoints, the control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.config.load import load
from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.control.trouble import ControlError
from ithaca.runtime.crew import Crew
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, StepDone, Warned, WorkerFailed
from ithaca.runtime.office import Office
from tests.helpers.real_job import Ran, run_job, run_loaded, write_job

pytestmark = pytest.mark.xdist_group("ray")

TWO_BY_TWO = {"pipelines": 2, "stages": 2}


def failure(ran: Ran) -> WorkerFailed:
    """The one failure of a run."""
    (found,) = [event for event in ran.events if isinstance(event, WorkerFailed)]
    return found


def test_a_drain_ends_behind_a_step_with_a_checkpoint(crew: Crew, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "layout": TWO_BY_TWO,
        "steps": 40,
        "checkpoint": {"every": 0},
        "optimizer": {"schedule": "constant", "warmup": 0},
    }
    loaded = load(write_job(tmp_path / "jobs", **changes))

    def drain(event: Event, office: Office) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            office.request_drain()

    drained = run_loaded(loaded, crew, tmp_path / "run", on_event=drain)
    assert drained.end.outcome == "drained"
    assert 3 <= drained.end.step < 40
    assert [event.step for event in drained.checkpoints] == [drained.end.step]
    resumed = run_loaded(loaded, crew, tmp_path / "run", resume=True)
    whole = run_loaded(loaded, crew, tmp_path / "whole")
    assert resumed.end.state_hash == whole.end.state_hash


def test_the_first_cause_is_named(crew: Crew, tmp_path: Path) -> None:
    ran = run_job(
        crew,
        tmp_path / "run",
        layout=TWO_BY_TWO,
        workload={"use": "tests.helpers.failing:Failing", "step": 2, "layer": 4},
        recovery={"strategy": "none"},
    )
    assert ran.end.outcome == "failed"
    cause = failure(ran)
    assert cause.worker in (1, 3)
    assert cause.step == 2
    assert cause.action.startswith("F ")
    assert "the weather is bad" in cause.traceback
    assert ran.end.step == 2


def test_a_not_finite_loss_stops_the_job_and_changes_nothing(crew: Crew, tmp_path: Path) -> None:
    bad = {"use": "tests.helpers.failing:NotFinite", "step": 2}
    stopped = run_job(crew, tmp_path / "stop", layout=TWO_BY_TWO, workload=bad)
    assert stopped.end.outcome == "failed"
    assert "NotFinite" in failure(stopped).cause
    assert "micro-batch" in failure(stopped).cause
    skipping = {"on_nan": "skip", "schedule": "constant"}
    skipped = run_job(crew, tmp_path / "skip", layout=TWO_BY_TWO, workload=bad, optimizer=skipping)
    alone = run_job(crew, tmp_path / "alone", workload=bad, optimizer=skipping)
    assert skipped.end.outcome == "finished"
    # NaN is not equal to itself: hashes are compared, not losses.
    assert skipped.trace.states == alone.trace.states
    assert skipped.trace.states[1][1] == skipped.trace.states[2][1]
    steps = [event for event in skipped.events if isinstance(event, StepDone)]
    assert [event.skipped for event in steps] == [False, False, True, False]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    crew: Crew, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"optimizer": {"schedule": "constant", "warmup": 0}, "steps": 6}
    # The end of a job is always saved; on a busy machine a checkpoint before it may be left out.
    first = run_job(crew, tmp_path / "run", **{**shared, "steps": 3})
    whole = run_job(crew, tmp_path / "run", resume=True, **shared)
    newest = Path(whole.checkpoints[-1].path)
    file = next(newest.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    again = run_job(crew, tmp_path / "run", resume=True, layout=TWO_BY_TWO, **shared)
    warnings = [event.message for event in again.events if isinstance(event, Warned)]
    assert any(newest.name in warning and file.name in warning for warning in warnings)
    before = [*first.checkpoints, *whole.checkpoints][-2].step
    assert 3 <= before < whole.checkpoints[-1].step
    assert again.trace.after(before) == whole.trace.after(before)


def test_another_job_cannot_go_on_from_a_checkpoint(crew: Crew, tmp_path: Path) -> None:
    run_job(crew, tmp_path / "run")
    with pytest.raises(UserError, match="seed"):
        run_job(crew, tmp_path / "run", resume=True, seed=6, steps=8)


def test_the_control_plane_answers_the_token_and_ends_with_the_run(
    crew: Crew, tmp_path: Path
) -> None:
    loaded = load(write_job(tmp_path / "jobs", layout=TWO_BY_TWO))
    known: list[Credentials] = []
    answers: list[str] = []

    def ask(event: Event, office: Office) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            known.append(Credentials.read(tmp_path / "run"))
            with ControlClient(known[0].address, known[0].token) as client:
                answers.append(client.status().state)
            for token in ("", "x" * 43):
                with (
                    ControlClient(known[0].address, token) as client,
                    pytest.raises(ControlError),
                ):
                    client.status()

    run_loaded(loaded, crew, tmp_path / "run", on_event=ask)
    assert answers == ["training"]
    with (
        ControlClient(known[0].address, known[0].token, timeout_s=5.0) as client,
        pytest.raises(ControlError),
    ):
        client.status()
    assert not (tmp_path / "run" / "control.json").exists()
    log = (tmp_path / "run" / "events.jsonl").read_text()
    assert known[0].token not in log
    assert json.loads(log.splitlines()[-1])["kind"] == "run_ended"
