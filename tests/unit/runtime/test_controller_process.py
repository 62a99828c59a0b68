"""What a driver asks of a controller's process, whichever of its calls comes first."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ithaca.runtime import controller_process
from ithaca.runtime.controller_process import ControllerProcess, Pulse
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import RunEnded
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost, Joined
from tests.helpers.fake_crew import facts_of
from tests.helpers.fake_crew import mission as mission_of
from tests.unit.house.source import ROOT

STARTS = """
import pickle, sys
from ithaca.runtime.controller_process import ControllerProcess
ControllerProcess(1.0)
pickle.load(sys.stdin.buffer)
print("torch" in sys.modules)
"""
END = RunEnded(time_s=0.0, outcome="finished", step=20, reason="", state_hash=None)
NEW = (5, "its handle", facts_of(1)[0], "")


class Begun(threading.Condition):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        """As a condition; never longer than a test may."""
        self.waiting.release()
        return super().wait(60 if timeout is None else min(timeout, 60))


@dataclass
class Work:
    """What stands in for an office: its run ends when ``end`` is set, with what it says then."""

    mission: Mission
    notes: list[object] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    said: tuple[str, ...] = ("a warning",)
    wanted: int = 0

    def put(self, note: object) -> None:
        """Let it know."""
        self.notes.append(note)

    def work(self) -> RunEnded:
        """Until the test says so."""
        assert self.end.wait(60)
        if self.error is not None:
            raise self.error
        return END


@pytest.fixture
def offices(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Work]]:
    """Those that were opened; all end with the test."""
    opened: list[Work] = []

    def open_one(mission: Mission, _: object) -> Work:
        opened.append(Work(mission))
        return opened[-1]

    monkeypatch.setattr(controller_process, "Office", open_one)
    yield opened
    for work in opened:
        work.end.set()
    for thread in threading.enumerate():
        if thread.name == "controller":
            thread.join(60)


@pytest.fixture
def process() -> ControllerProcess:
    """One that nobody has begun."""
    made = ControllerProcess(68.0)
    made._begun = Begun()
    return made


@pytest.fixture
def mission(tmp_path: Path) -> Mission:
    """A run."""
    return mission_of(tmp_path, 0, detect="1s")


CREW = (facts_of(2), 1.0, "handle", "handle")


def ended(process: ControllerProcess, run: str, work: Work) -> Pulse:
    """What is told of a run when it has ended."""
    work.end.set()
    for thread in threading.enumerate():
        if thread.name == "controller":
            thread.join(60)
    return process.pulse(run, 0)


def test_who_joins_while_it_begins_is_not_forgotten(
    process: ControllerProcess, mission: Mission, offices: list[Work]
) -> None:
    """Calls of the driver run in threads: an earlier one may end later."""
    calls = [
        threading.Thread(target=process.joined, args=(mission.run, *NEW)),
        threading.Thread(target=process.head_lost, args=(mission.run, "the head is gone")),
    ]
    for call in calls:
        call.start()
    assert isinstance(process._begun, Begun)
    for _ in calls:
        assert process._begun.waiting.acquire(timeout=60)
    assert offices == []
    process.begin(mission, *CREW)
    for call in calls:
        call.join(60)
    assert sorted(offices[0].notes, key=str) == [HeadLost("the head is gone"), Joined(*NEW)]


def test_who_is_introduced_again_has_joined_once(
    process: ControllerProcess, mission: Mission, offices: list[Work]
) -> None:
    """A driver that does not know yet of a new process says everything again when it does."""
    process.begin(mission, *CREW)
    process.begin(mission, *CREW)
    for worker in (5, 5, 6):
        process.joined(mission.run, worker, *NEW[1:])
    (office,) = offices
    assert office.notes == [Joined(*NEW), Joined(6, *NEW[1:])]


def test_one_that_nobody_begins_says_so(
    process: ControllerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process._begun, "wait_for", lambda *_: False)
    with pytest.raises(TimeoutError, match="nobody began this controller within 68 s"):
        process.head_lost("a run", "the head is gone")


@pytest.mark.parametrize("error", [None, UserError("no layer fits"), KeyError("a mistake")])
def test_it_works_on_the_next_run_when_one_has_ended(
    process: ControllerProcess, mission: Mission, offices: list[Work], error: Exception | None
) -> None:
    process.begin(mission, *CREW)
    following = replace(mission, run="the next")
    with pytest.raises(RuntimeError, match=f"run {mission.run} has not ended, the next cannot"):
        process.begin(following, *CREW)
    offices[0].error = error
    first = ended(process, mission.run, offices[0])
    assert (first.end == END, first.refused, "KeyError" in first.broken) == (
        error is None,
        "no layer fits" if isinstance(error, UserError) else "",
        isinstance(error, KeyError),
    )
    assert process.pulse("the next", 0) == replace(first, said=(), end=None, refused="", broken="")
    process.begin(following, *CREW)
    process.joined("the next", *NEW)
    assert [work.mission for work in offices] == [mission, following]
    assert [work.notes for work in offices] == [[], [Joined(*NEW)]]
    assert process.pulse("the next", 0).end is None
    assert ended(process, "the next", offices[1]).end == END
    # A call about the run before would be for another controller.
    assert process.pulse(mission.run, 0).end is None


def loads_torch(mission: Mission) -> bool:
    """Whether a controller's process has imported torch when it has its mission."""
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        input=pickle.dumps(mission),
        stdout=subprocess.PIPE,
        env=path,
        timeout=100,
        check=True,
    )
    return done.stdout.split() == [b"True"]


def test_it_starts_without_torch(tmp_path: Path) -> None:
    """Whoever waits for a controller, or for a new one, would wait for that too."""
    mission = mission_of(tmp_path, 0)
    assert not loads_torch(mission)
    opened = mission.workload_config.open()
    assert type(opened).__module__ == "tests.helpers.small_models"
    assert loads_torch(replace(mission, workload_config=opened))
