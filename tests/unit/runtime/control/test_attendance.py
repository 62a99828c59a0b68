"""The stream of orders over a real socket: at once, again after a break, and as a sign of death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ithaca.runtime.control.attendance import Attendance
from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.roll import Attend, Order, OrderKind
from ithaca.runtime.control.server import ControlServer
from ithaca.runtime.control.trouble import ControlError, Trouble

if TYPE_CHECKING:
    from tests.unit.runtime.control.conftest import NotedRun

WAIT_S = 20.0
CALL_S = 10.0
FENCE = Order(4, OrderKind.FENCE)
CHILD = """
import sys, time
from ithaca.runtime.control.attendance import Attendance
from ithaca.runtime.control.client import ControlClient
address, token = sys.argv[1:]
Attendance(
    lambda: ControlClient(address, token), 1, "child", lambda: 3, 0.05,
    lambda order: None, lambda generation: None,
).start()
time.sleep(600)
"""


class Told:
    """What the callbacks were told."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.fences: list[int] = []
        self.changed = threading.Condition()

    def order(self, order: Order) -> None:
        with self.changed:
            self.orders.append(order)
            self.changed.notify_all()

    def fenced(self, generation: int) -> None:
        with self.changed:
            self.fences.append(generation)
            self.changed.notify_all()

    def wait(self, wanted: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(wanted, WAIT_S)


def wait(noted: NotedRun, wanted: Callable[[], bool]) -> None:
    with noted.changed:
        assert noted.changed.wait_for(wanted, WAIT_S)


@contextmanager
def attending(
    address: str, token: str, told: Told, generation: Callable[[], int] = lambda: 3
) -> Iterator[Attendance]:
    attendance = Attendance(
        lambda: ControlClient(address, token, CALL_S),
        1,
        "a",
        generation,
        0.05,
        told.order,
        told.fenced,
    )
    attendance.start()
    try:
        yield attendance
    finally:
        attendance.stop(WAIT_S)


def test_orders_arrive_and_the_end_of_a_worker_is_seen(
    address: str, token: str, noted: NotedRun
) -> None:
    told = Told()
    with attending(address, token, told):
        wait(noted, lambda: bool(noted.attended))
        noted.roll.push(FENCE, [1])
        told.wait(lambda: told.orders == [FENCE])
        assert noted.left == []
    wait(noted, lambda: noted.left == [Attend(1, "a", 3)])


def test_a_killed_process_is_seen_by_its_stream(address: str, token: str, noted: NotedRun) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, address, token])
    try:
        wait(noted, lambda: bool(noted.attended))
        os.kill(child.pid, signal.SIGSTOP)
        assert noted.left == []
        child.kill()
        wait(noted, lambda: noted.left == [Attend(1, "child", 3)])
    finally:
        child.kill()
        child.wait(WAIT_S)


def test_who_is_behind_is_greeted_with_the_fence(address: str, token: str, noted: NotedRun) -> None:
    noted.generation = 4
    told = Told()
    with attending(address, token, told):
        told.wait(lambda: told.orders == [FENCE])


def test_who_is_no_longer_part_of_the_run_is_told_so(
    address: str, token: str, noted: NotedRun
) -> None:
    noted.generation = 9
    told = Told()
    with attending(address, token, told):
        told.wait(lambda: told.fences == [9])
    assert noted.attended == []


def test_who_is_overtaken_by_a_generation_while_it_asks_is_not_told_so(
    address: str, token: str, noted: NotedRun
) -> None:
    noted.generation = 9
    told, asked = Told(), [1, 9]

    def generation() -> int:
        return asked.pop(0) if len(asked) > 1 else asked[0]

    with attending(address, token, told, generation):
        wait(noted, lambda: noted.attended == [Attend(1, "a", 9)])
    assert told.fences == []


def test_a_worker_attends_again_after_the_controller_came_back(noted: NotedRun, token: str) -> None:
    first = ControlServer(noted, token)
    address = first.start()
    told = Told()
    with attending(address, token, told):
        wait(noted, lambda: len(noted.attended) == 1)
        first.stop(0.0)
        second = ControlServer(noted, token, port=int(address.rsplit(":", 1)[1]))
        assert second.start() == address
        wait(noted, lambda: len(noted.attended) == 2)
        noted.roll.push(FENCE, [1])
        told.wait(lambda: told.orders == [FENCE])
    noted.roll.close()
    second.stop(1.0)


def test_a_silly_rest_between_tries_is_refused(address: str, token: str) -> None:
    with pytest.raises(ValueError, match="so many seconds"):
        Attendance(
            lambda: ControlClient(address, token), 1, "a", int, 0.0, lambda _: None, lambda _: None
        )


def test_one_worker_leaves_by_a_drain_of_its_own(address: str, token: str, noted: NotedRun) -> None:
    with ControlClient(address, token, CALL_S) as client:
        assert [client.drain(1), client.drain(1)] == [True, False]
        with pytest.raises(ControlError, match="there is no worker 7") as caught:
            client.drain(7)
    assert caught.value.trouble is Trouble.INVALID
    assert (noted.leaving, noted.drains) == ([1, 1], 0)


def test_a_fault_arrives_only_where_drills_are_allowed(
    address: str, token: str, noted: NotedRun
) -> None:
    with ControlClient(address, token, CALL_S) as client:
        client.inject(1, "kill")
        noted.drills = False
        with pytest.raises(ControlError, match="no drills") as caught:
            client.inject(1, "kill")
    assert caught.value.trouble is Trouble.INVALID
    assert noted.faults == [(1, "kill")]
