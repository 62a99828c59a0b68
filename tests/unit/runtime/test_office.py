"""The office: one controller works at a time, on the record, where workers look for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ithaca.runtime import office as office_module
from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.crew import Crew
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded, Warned
from ithaca.runtime.folder import LOG
from ithaca.runtime.log import read
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost, Leave, Note
from ithaca.runtime.office import Office
from tests.helpers.fake_crew import mission as mission_of

END = RunEnded(time_s=0.0, outcome="finished", step=20, reason="", state_hash=None)


class Told:
    """What the office did, in order; the controller and the control plane are not real."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.notes: list[Note] = []
        self.drained = 0
        self.planes: list[dict[str, Any]] = []
        self.taken: set[int] = set()
        self.wanted = 3
        self.strike: dict[str, Callable[[], None]] = {}
        self.emit: Callable[[Event], None] = lambda _: None

    def at(self, point: str) -> None:
        """A named point of the office's work; a test may strike there."""
        self.order.append(point)
        self.strike.get(point, lambda: None)()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()

    class FakeFront:
        def request_drain(self) -> None:
            found.drained += 1

    class FakeController:
        wanted = found.wanted

        def __init__(
            self, mission: Mission, crew: Crew, emit: Callable[[Event], None], journal: object
        ) -> None:
            self.front = FakeFront()
            found.emit = emit
            found.at("made")

        def prepare(self) -> None:
            found.at("prepare")

        def put(self, note: Note) -> None:
            found.notes.append(note)

        def run(self, plane: object) -> RunEnded:
            found.at("run")
            return END

    class FakePlane:
        @staticmethod
        def open(front: object, folder: Path, **how: Any) -> Any:  # noqa: ANN401
            found.planes.append(how)
            if how["port"] in found.taken:
                raise UserError(f"port {how['port']} is taken")
            found.at("open")
            return FakePlane.held()

        @staticmethod
        @contextmanager
        def held() -> Iterator[str]:
            yield "plane"
            found.at("closed")

    monkeypatch.setattr(office_module, "Controller", FakeController)
    monkeypatch.setattr(office_module, "ControlPlane", FakePlane)
    return found


@pytest.fixture
def mission(tmp_path: Path) -> Mission:
    return mission_of(tmp_path, 0)


def office(mission: Mission, *listeners: Callable[[Event], None]) -> Office:
    return Office(mission, Crew({}, {}, 1.0), listeners)


def left_by(mission: Mission, port: int, pid: int | None = None) -> Credentials:
    """What an office of this run, or of process ``pid``, left in the folder."""
    left = Credentials(
        f"127.0.0.1:{port}", "t" * 43, mission.pid if pid is None else pid, mission.started
    )
    left.write(mission.folder)
    return left


def test_nobody_may_call_before_the_controller_knows_the_run(told: Told, mission: Mission) -> None:
    assert office(mission).work() == END
    assert told.order == ["made", "prepare", "open", "run", "closed"]


@pytest.mark.parametrize("point", ["before", "made", "prepare", "open", "run"])
def test_no_note_and_no_wish_to_drain_is_lost(told: Told, mission: Mission, point: str) -> None:
    here = office(mission)
    note = HeadLost("the head is gone")

    def strike() -> None:
        here.put(note)
        here.request_drain()

    if point == "before":
        strike()
    told.strike[point] = strike
    here.work()
    assert told.notes == [note]
    assert told.drained == 1


def test_notes_come_in_the_order_in_which_they_were_put(told: Told, mission: Mission) -> None:
    here = office(mission)
    early, late = Leave(1), Leave(2)
    here.put(early)
    told.strike["run"] = lambda: here.put(late)
    here.work()
    assert told.notes == [early, late]


def test_what_happens_is_in_the_log_before_anybody_hears_it(told: Told, mission: Mission) -> None:
    heard: list[int] = []

    def listen(_: Event) -> None:
        heard.append(len(read(mission.folder / LOG)))

    told.strike["run"] = lambda: told.emit(Warned(time_s=0.0, message="look"))
    office(mission, listen).work()
    assert heard == [1]


def test_a_successor_is_where_workers_look_for_it(told: Told, mission: Mission) -> None:
    before = left_by(mission, 4321)
    office(mission).work()
    (how,) = told.planes
    assert (how["port"], how["token"]) == (4321, before.token)


def test_if_the_port_is_taken_the_jobs_own_is_tried(told: Told, mission: Mission) -> None:
    before = left_by(mission, 4321)
    told.taken = {4321}
    office(mission).work()
    assert [how["port"] for how in told.planes] == [4321, mission.job.control.port]
    assert {how["token"] for how in told.planes} == {before.token}


def test_if_no_port_is_left_that_is_said(told: Told, mission: Mission) -> None:
    told.taken = {mission.job.control.port}
    with pytest.raises(UserError, match="is taken"):
        office(mission).work()


def test_what_another_run_left_is_not_used(told: Told, mission: Mission) -> None:
    left_by(mission, 4321, pid=mission.pid + 1)
    office(mission).work()
    (how,) = told.planes
    assert (how["port"], how["token"]) == (mission.job.control.port, None)


def test_two_offices_do_not_work_on_one_run(
    told: Told, mission: Mission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ithaca.runtime.journal._LOOK_S", 0.001)
    soon = SimpleNamespace(from_detect=lambda _: SimpleNamespace(join_s=0.0))
    monkeypatch.setattr(office_module, "Timeouts", soon)

    def second() -> None:
        with pytest.raises(UserError, match="is in use"):
            office(mission).work()

    told.strike["run"] = second
    office(mission).work()
    assert told.order.count("made") == 1


def test_before_there_is_a_controller_nobody_is_wanted(told: Told, mission: Mission) -> None:
    here = office(mission)
    assert here.wanted == 0
    told.strike["open"] = lambda: told.order.append(f"wanted {here.wanted}")
    here.work()
    assert f"wanted {told.wanted}" in told.order
