"""What a driver asks of a controller's process, whichever of its calls comes first."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ithaca.runtime import controller_process
from ithaca.runtime.controller_process import ControllerProcess
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost, Joined
from tests.helpers.fake_crew import facts_of
from tests.helpers.fake_crew import mission as mission_of
from tests.unit.house.source import ROOT

STARTS = """
import pickle, sys
from ithaca.runtime.controller_process import ControllerProcess
ControllerProcess(pickle.load(sys.stdin.buffer))
print("torch" in sys.modules)
"""
NEW = (5, "its handle", facts_of(1)[0], "")


class Begun(threading.Event):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """As an event; never longer than a test may."""
        self.waiting.set()
        return super().wait(60 if timeout is None else min(timeout, 60))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the office is told."""
    told: list[object] = []
    ended = SimpleNamespace(put=told.append, work=lambda: None, said=(), wanted=0)
    monkeypatch.setattr(controller_process, "Office", lambda *_: ended)
    return told


@pytest.fixture
def process(tmp_path: Path) -> ControllerProcess:
    """One that nobody has begun."""
    made = ControllerProcess(mission_of(tmp_path, 0, detect="1s"))
    made._began = Begun()
    return made


def test_who_joins_while_it_begins_is_not_forgotten(
    process: ControllerProcess, notes: list[object]
) -> None:
    """Calls of the driver run in threads: an earlier one may end later."""
    calls = [
        threading.Thread(target=process.joined, args=NEW),
        threading.Thread(target=process.head_lost, args=("the head is gone",)),
    ]
    for call in calls:
        call.start()
    assert isinstance(process._began, Begun)
    assert process._began.waiting.wait(60)
    assert notes == []
    process.begin(facts_of(2), 1.0, "handle", "handle")
    for call in calls:
        call.join(60)
    assert sorted(notes, key=str) == [HeadLost("the head is gone"), Joined(*NEW)]


def test_who_is_introduced_again_has_joined_once(
    process: ControllerProcess, notes: list[object]
) -> None:
    """A driver that does not know yet of a new process says everything again when it does."""
    process.begin(facts_of(2), 1.0, "handle", "handle")
    process.joined(*NEW)
    process.joined(*NEW)
    process.joined(6, *NEW[1:])
    assert notes == [Joined(*NEW), Joined(6, *NEW[1:])]


def test_one_that_nobody_begins_says_so(
    process: ControllerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process._began, "wait", lambda _: False)
    with pytest.raises(TimeoutError, match="nobody began this controller within 68 s"):
        process.head_lost("the head is gone")


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
