"""A run that only takes notes, and a server in front of it; no thread outlives its test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from ithaca.runtime.control.credentials import new_token
from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.inbox import Inbox
from ithaca.runtime.control.roll import Attend, Order, OrderKind, Post, Roll
from ithaca.runtime.control.server import ControlServer
from ithaca.runtime.control.surface import (
    Beat,
    BeatReply,
    Command,
    Fenced,
    RunStatus,
    WorkerStatus,
    refuse_older,
)

WAIT_S = 20.0


class NotedRun:
    """A control surface: says what it was told to say and remembers what it was asked."""

    def __init__(self, feed: EventFeed | None = None) -> None:
        self.events = feed or EventFeed()
        self.inbox = Inbox()
        self.generation = 3
        self.command = Command.NONE
        self.calls = 0
        self.drains = 0
        self.beats: list[Beat] = []
        self.lines: list[str] = []
        self.lost = 0
        self.leaving: list[int] = []
        self.faults: list[tuple[int, str]] = []
        self.drills = True
        self.attended: list[Attend] = []
        self.left: list[Attend] = []
        self.changed = threading.Condition()
        self.roll = Roll(self._left)

    def status(self) -> RunStatus:
        with self.changed:
            self.calls += 1
            workers = (
                WorkerStatus(0, "node-a", 101, "running", 7, "F s0 m1", 0.25, 0.5),
                WorkerStatus(1, "node-b", 102, "starting"),
            )
            return RunStatus(
                "quick",
                "training",
                7,
                40,
                2.5,
                1234.0,
                self.generation,
                "pipeline 0-3 0:4@w0",
                workers,
                1.7e9,
            )

    def request_drain(self) -> bool:
        with self.changed:
            self.calls += 1
            self.drains += 1
            return self.drains == 1

    def request_leave(self, worker: int) -> bool:
        with self.changed:
            self.calls += 1
            if worker > 1:
                raise ValueError(f"there is no worker {worker}")
            self.leaving.append(worker)
            return self.leaving.count(worker) == 1

    def inject(self, worker: int, fault: str) -> None:
        with self.changed:
            self.calls += 1
            if not self.drills:
                raise PermissionError("this job allows no drills")
            self.faults.append((worker, fault))

    def attend(self, who: Attend) -> Post:
        with self.changed:
            self.calls += 1
            if who.generation < self.generation - 1:
                raise Fenced(who.generation, self.generation)
            behind = who.generation < self.generation
            greeting = [Order(self.generation, OrderKind.FENCE)] if behind else []
            post = self.roll.enter(who, greeting)
            self.attended.append(who)
            self.changed.notify_all()
            return post

    def _left(self, who: Attend) -> None:
        with self.changed:
            self.left.append(who)
            self.changed.notify_all()

    def beat(self, beat: Beat) -> BeatReply:
        with self.changed:
            self.calls += 1
            refuse_older(beat, self.generation)
            delivery = self.inbox.take(beat)
            self.beats.append(beat)
            self.lines += [record.line for record in delivery.records]
            self.lost += delivery.lost
            self.changed.notify_all()
            return BeatReply(self.command, self.generation, delivery.acknowledged)

    def await_beat(self, wanted: Callable[[Beat], bool]) -> None:
        """Waits, with a bound, for a beat after now that is ``wanted``."""
        with self.changed:
            seen = len(self.beats)
            assert self.changed.wait_for(
                lambda: any(wanted(beat) for beat in self.beats[seen:]), WAIT_S
            )


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fails a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
        assert not thread.is_alive(), f"{thread.name} outlived the test"


@pytest.fixture
def noted() -> NotedRun:
    return NotedRun()


@pytest.fixture
def token() -> str:
    return new_token()


@pytest.fixture
def address(noted: NotedRun, token: str) -> Iterator[str]:
    """Where ``noted`` is served."""
    server = ControlServer(noted, token)
    yield server.start()
    noted.events.close()
    noted.roll.close()
    server.stop(1.0)
