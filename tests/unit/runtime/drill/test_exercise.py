"""The drill's own part: what it compares, what it keeps, what it says; runs are made up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ithaca.recovery.drill import Trace
from ithaca.runtime.drill import exercise as exercise_module
from ithaca.runtime.drill.exercise import exercise
from ithaca.runtime.drill.load import load_drill
from ithaca.runtime.drill.reference import code_hash, recorded, reference_key
from ithaca.runtime.drill.result import result_of, trace_of
from ithaca.runtime.drill.tell import tell
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, StateHashed, StepDone
from tests.helpers.fake_recovery import crash, crashed
from tests.helpers.fake_run import FakeRun
from tests.unit.runtime.drill.test_drill_file import written

DRILL = """\
name: toy-crash
job: job.yaml
faults: [crash w2 at step 5 before B m5]
expect: {strategies: [reroute], failures: [crash], max_redone: 4}
"""


def hashed(events: Sequence[Event]) -> list[Event]:
    """With a hash of the state behind every step."""
    out: list[Event] = []
    for event in events:
        out.append(event)
        if isinstance(event, StepDone):
            text = f"state {event.step}"
            out.append(
                StateHashed(time_s=event.time_s, step=event.step, state_hash=text, layers={})
            )
    return out


class Runs:
    """Stands in for ``ithaca run``: the events and exit codes of both runs."""

    def __init__(self) -> None:
        self.undisturbed = hashed(list(FakeRun(steps=8).events()))
        self.disturbed = hashed(crashed(FakeRun(steps=8), 5))
        self.code = 0
        self.calls: list[str] = []

    def __call__(self, loaded: object, folder: Path, *_: object, disturbed: bool) -> object:
        self.calls.append(folder.name)
        events = self.disturbed if disturbed else self.undisturbed
        return (0 if disturbed else self.code), events, "the output"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(exercise_module, "_run", made)
    return made


Do = Callable[..., exercise_module.Exercise]


@pytest.fixture
def do(tmp_path: Path) -> Do:
    """Carries the drill out."""
    path = written(tmp_path, DRILL)

    def carry_out(fresh: bool = False) -> exercise_module.Exercise:
        return exercise(load_drill(path), tmp_path / "drills", lambda _: None, fresh)

    return carry_out


def test_a_recovery_without_a_trace_passes(runs: Runs, do: Do) -> None:
    done = do()
    assert done.problems == ()
    assert runs.calls == ["undisturbed", "disturbed"]
    lines = list(tell(done.result, done.problems))
    text = "\n".join(lines)
    for part in (
        "1. crash of worker 2", "drill       crash w2 at step 5 before B m5",
        "where       rank 2, node 10.0.0.2, in step 5, B 0:4 m5", "evidence    its stream",
        "decision    generation 1 by reroute", "detect      12 ms", "first step  128 ms",
        "cost        pause 84 ms, 2 micro-batches done again, 0 samples lost",
        "step        predicted 310 ms, measured ",
        "passed: 8 steps with the bits of the undisturbed run",
    ):  # fmt: skip
        assert part in text, text


def test_what_was_not_compared_is_not_claimed(runs: Runs, do: Do) -> None:
    assert list(tell(do().result, (), compared=False))[-1] == "passed; bits were not compared"


def test_another_bit_fails(runs: Runs, do: Do) -> None:
    runs.disturbed = [
        replace(e, loss=e.loss + 1e-15) if isinstance(e, StepDone) and e.step == 6 else e
        for e in runs.disturbed
    ]
    done = do()
    assert len(done.problems) == 1
    assert "after step 6: loss" in done.problems[0]
    assert "not passed: 1 difference" in list(tell(done.result, done.problems))


def test_known_bits_are_taken_again_unless_told_otherwise(runs: Runs, do: Do) -> None:
    assert [do().known, do().known, do(fresh=True).known] == [False, True, False]
    assert runs.calls.count("undisturbed") == 2
    assert runs.calls.count("disturbed") == 3


def test_runs_get_folders_of_their_own(runs: Runs, do: Do) -> None:
    first = do()
    first.folder.mkdir(parents=True)
    second = do()
    assert first.folder != second.folder
    assert second.folder.parent.name == "toy-crash-2"


def test_a_job_that_does_not_finish_by_itself_is_no_reference(runs: Runs, do: Do) -> None:
    runs.code = 1
    with pytest.raises(UserError, match="does not finish undisturbed"):
        do()
    runs.code = 0
    assert not do().known


def test_of_a_step_done_again_the_last_record_counts() -> None:
    events = hashed(list(FakeRun(steps=6).events()))
    step = next(e for e in events if isinstance(e, StepDone) and e.step == 3)
    again = replace(step, loss=step.loss * 2)
    assert trace_of([*events, again]).losses[3][0] == repr(again.loss)


def test_a_run_that_left_nothing_can_be_judged() -> None:
    result = result_of([], 1, "it broke")
    assert (result.outcome, result.exit_code, result.text) == (None, 1, "it broke")
    assert result_of(list(crash(0.0, 3)), None).account.episodes != ()


def test_the_key_follows_whatever_decides_the_bits() -> None:
    job = {"steps": 3, "seed": 1, "workload": {"use": "lm"}, "layout": {"pipelines": 2}}
    base = reference_key(job, {"torch": "a"}, "c")
    assert reference_key({**job, "layout": {"pipelines": 4}}, {"torch": "a"}, "c") == base
    others = [
        reference_key({**job, "steps": 4}, {"torch": "a"}, "c"),
        reference_key({**job, "seed": 2}, {"torch": "a"}, "c"),
        reference_key(job, {"torch": "b"}, "c"),
        reference_key(job, {"torch": "a"}, "d"),
    ]
    assert len({base, *others}) == 5
    assert code_hash() == code_hash()


def test_bits_are_read_back_exactly(tmp_path: Path) -> None:
    trace = Trace({1: "a", 2: "b"}, {1: (repr(1 / 3), "0.0", "nan", 64)})
    assert recorded(tmp_path / "cache", "key", lambda: trace) == (trace, False)
    assert recorded(tmp_path / "cache", "key", lambda: Trace({}, {})) == (trace, True)


def test_a_run_beyond_its_limit_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, DRILL.replace("name:", "limit: 300ms\nname:"))
    loaded = load_drill(path)
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        assert command[1:4] == ["-m", "ithaca", "run"]
        code = "import time; print('here', flush=True); time.sleep(600)"
        started.append(real([sys.executable, "-c", code], **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    code, events, text = exercise_module._run(loaded, tmp_path / "run", disturbed=True)
    assert (code, events) == (124, [])
    assert "longer than 0.3 s" in text
    assert started[0].poll() is not None
