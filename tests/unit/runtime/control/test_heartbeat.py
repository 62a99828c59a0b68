"""The heart: beats, records delivered once, commands, fences, and a controller that goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.heartbeat import Heart, Position
from ithaca.runtime.control.inbox import Delivery, Inbox
from ithaca.runtime.control.server import ControlServer
from ithaca.runtime.control.surface import Beat, BeatReply, Command
from ithaca.runtime.control.trouble import ControlError, Trouble
from ithaca.runtime.control.wire import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from tests.unit.runtime.control.conftest import NotedRun

WAIT_S = 20.0
SOON_S = 0.01
NEVER_S = 3600.0


class Wire:
    """A line to a run in this process; ``trouble`` says what happens to the next beats."""

    def __init__(self, run: NotedRun) -> None:
        self.run = run
        self.trouble: list[str] = []
        self.dialled = 0

    def dial(self) -> Wire:
        self.dialled += 1
        return self

    def beat(self, beat: Beat) -> BeatReply:
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "request":
            raise ControlError(Trouble.UNREACHABLE, "the request was lost")
        reply = self.run.beat(beat)
        if trouble == "reply":
            raise ControlError(Trouble.SLOW, "the reply was lost")
        return reply

    def close(self) -> None:
        pass


class Told:
    """What the heart's callbacks were told."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.fences: list[int] = []
        self.changed = threading.Condition()

    def command(self, command: Command) -> None:
        with self.changed:
            self.commands.append(command)
            self.changed.notify_all()

    def fenced(self, generation: int) -> None:
        with self.changed:
            self.fences.append(generation)
            self.changed.notify_all()

    def wait(self, wanted: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(wanted, WAIT_S)


def position(generation: int = 3) -> Position:
    return Position(lambda: 0.0, generation)


def heart(wire: Wire, told: Told, where: Position, interval_s: float, **bounds: int) -> Heart:
    return Heart(wire.dial, 1, "a", where, interval_s, told.command, told.fenced, **bounds)


def test_beats_tell_where_the_engine_is(noted: NotedRun) -> None:
    now = 5.0
    where = Position(lambda: now, generation=3)
    beating = heart(Wire(noted), Told(), where, SOON_S)
    beating.start()
    where.enter(3, 8, "F s0 m1")
    now = 5.75
    noted.await_beat(lambda beat: (beat.step, beat.action, beat.since_s) == (8, "F s0 m1", 0.75))
    where.enter(4, 9, 17)
    noted.await_beat(lambda beat: (beat.generation, beat.step, beat.action) == (4, 9, "17"))
    beating.stop(WAIT_S)
    assert {(beat.worker, beat.incarnation) for beat in noted.beats} == {(1, "a")}


def test_a_record_goes_at_once_not_at_the_next_beat(noted: NotedRun) -> None:
    beating = heart(Wire(noted), Told(), position(), NEVER_S)
    beating.start()
    assert [beating.report(line) for line in ("a", "b")] == [1, 2]
    assert beating.flush(WAIT_S)
    assert beating.report("c") == 3
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert noted.lines == ["a", "b", "c"]


def lossy(noted: NotedRun) -> list[str]:
    """What arrives of a, b, c when requests and replies are lost."""
    wire = Wire(noted)
    wire.trouble = ["request", "reply", "reply", "request"]
    beating = heart(wire, Told(), position(), SOON_S)
    beating.report("a")
    beating.report("b")
    beating.start()
    assert beating.flush(WAIT_S)
    wire.trouble = ["reply"]
    beating.report("c")
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert wire.dialled == 6
    return noted.lines


def test_records_arrive_exactly_once_though_requests_and_replies_are_lost(
    noted: NotedRun,
) -> None:
    assert lossy(noted) == ["a", "b", "c"]
    assert noted.lost == 0


def test_the_oracle_sees_an_inbox_that_forgets(
    noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(_inbox: Inbox, beat: Beat) -> Delivery:
        last = beat.records[-1].sequence if beat.records else beat.acknowledged
        return Delivery(beat.records, 0, last)

    monkeypatch.setattr(Inbox, "take", forgetful)
    assert lossy(noted) != ["a", "b", "c"]


def test_many_records_go_in_batches_that_fit_a_message(noted: NotedRun) -> None:
    lines = [str(number) for number in range(1000)] + ["x" * (MAX_RECORD_BYTES // 2)] * 5
    beating = heart(Wire(noted), Told(), position(), NEVER_S)
    for line in lines:
        beating.report(line)
    beating.start()
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert noted.lines == lines
    sizes = [sum(len(record.line) for record in beat.records) for beat in noted.beats]
    assert max(sizes) <= MAX_RECORD_BYTES


def test_beyond_the_bound_the_oldest_go_and_the_run_learns_how_many(noted: NotedRun) -> None:
    beating = heart(Wire(noted), Told(), position(), NEVER_S, capacity=3, capacity_bytes=9)
    for number in range(10):
        beating.report(str(number))
    beating.report("x" * (MAX_RECORD_BYTES + 1))
    beating.report("12345")
    beating.start()
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert noted.lines == ["8", "9", "12345"]
    assert noted.lost == 9


def test_a_record_is_one_line(noted: NotedRun) -> None:
    with pytest.raises(ValueError, match="one line"):
        heart(Wire(noted), Told(), position(), SOON_S).report("{}\n{}")


def test_a_command_is_told_when_it_changes(noted: NotedRun) -> None:
    told = Told()
    beating = heart(Wire(noted), told, position(), SOON_S)
    beating.start()
    noted.command = Command.DRAIN
    told.wait(lambda: told.commands == [Command.DRAIN])
    for _ in range(3):
        noted.await_beat(lambda _beat: True)
    noted.command = Command.STOP
    told.wait(lambda: told.commands == [Command.DRAIN, Command.STOP])
    beating.stop(WAIT_S)
    assert told.commands == [Command.DRAIN, Command.STOP]


def test_a_fenced_worker_is_told_once_and_heard_again_with_the_new_generation(
    noted: NotedRun,
) -> None:
    told = Told()
    where = position(generation=2)
    beating = heart(Wire(noted), told, where, SOON_S)
    beating.report("kept")
    beating.start()
    told.wait(lambda: told.fences == [3])
    assert not beating.flush(5 * SOON_S)
    assert noted.lines == []
    where.enter(3, 0, "")
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert (noted.lines, told.fences) == (["kept"], [3])


class Late(Wire):
    """The worker enters the run's generation while its first beat is under way."""

    def __init__(self, run: NotedRun, where: Position) -> None:
        super().__init__(run)
        self.where = where

    def beat(self, beat: Beat) -> BeatReply:
        self.where.enter(3, 0, "")
        return super().beat(beat)


def test_a_beat_that_is_overtaken_by_a_generation_fences_nobody(noted: NotedRun) -> None:
    told, where = Told(), position(generation=2)
    beating = heart(Late(noted, where), told, where, SOON_S)
    beating.report("kept")
    beating.start()
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    assert (noted.lines, told.fences) == (["kept"], [])


def test_the_oracle_sees_a_heart_that_takes_every_refusal_for_its_own(
    noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Heart._refused

    def credulous(self: Heart, given: int, generation: int) -> None:
        refused(self, self._position.generation, generation)

    monkeypatch.setattr(Heart, "_refused", credulous)
    with pytest.raises(AssertionError):
        test_a_beat_that_is_overtaken_by_a_generation_fences_nobody(noted)


def test_a_run_that_takes_nothing_is_not_asked_without_rest(noted: NotedRun) -> None:
    class Deaf(Wire):
        def beat(self, beat: Beat) -> BeatReply:
            self.run.beat(beat)
            return BeatReply(Command.NONE, 3, 0)

    beating = heart(Deaf(noted), Told(), position(), NEVER_S)
    beating.report("a")
    beating.start()
    assert not beating.flush(10 * SOON_S)
    beating.stop(WAIT_S)
    assert len(noted.beats) == 1


def test_a_stop_cuts_a_call_that_hangs(noted: NotedRun) -> None:
    class Hanging(Wire):
        def __init__(self, run: NotedRun) -> None:
            super().__init__(run)
            self.called, self.cut = threading.Event(), threading.Event()

        def beat(self, beat: Beat) -> BeatReply:
            self.called.set()
            assert self.cut.wait(WAIT_S)
            raise ControlError(Trouble.UNREACHABLE, "closed")

        def close(self) -> None:
            self.cut.set()

    wire = Hanging(noted)
    beating = heart(wire, Told(), position(), SOON_S)
    beating.start()
    assert wire.called.wait(WAIT_S)
    beating.stop(SOON_S)
    assert wire.cut.is_set()


def test_a_heart_that_never_beat_stops_and_delivers_nothing(noted: NotedRun) -> None:
    beating = heart(Wire(noted), Told(), position(), SOON_S)
    assert beating.flush(SOON_S)
    beating.report("a")
    beating.stop(WAIT_S)
    assert not beating.flush(SOON_S)
    with pytest.raises(ValueError, match="not every 0"):
        heart(Wire(noted), Told(), position(), 0)


def test_records_survive_a_restart_of_the_server(noted: NotedRun, token: str) -> None:
    told = Told()
    first = ControlServer(noted, token)
    address = first.start()
    beating = Heart(
        lambda: ControlClient(address, token, timeout_s=5.0),
        1,
        "a",
        position(),
        SOON_S,
        told.command,
        told.fenced,
    )
    beating.report("before")
    beating.start()
    assert beating.flush(WAIT_S)
    first.stop(1.0)
    beating.report("while it was away")
    assert not beating.flush(5 * SOON_S)

    noted.inbox = Inbox(noted.inbox.seen())
    second = ControlServer(noted, token, port=int(address.rsplit(":", 1)[1]))
    assert second.start() == address
    assert beating.flush(WAIT_S)
    beating.report("after")
    assert beating.flush(WAIT_S)
    beating.stop(WAIT_S)
    second.stop(1.0)
    assert noted.lines == ["before", "while it was away", "after"]
    assert noted.lost == 0
