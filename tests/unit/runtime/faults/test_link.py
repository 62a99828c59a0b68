"""A broken link: nothing passes between two processes, everything between each and a third."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ithaca.recovery.fault import FaultError
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.faults import link as link_module
from ithaca.runtime.faults.injector import InjectedError, Injector, Reach
from ithaca.runtime.faults.link import Link

SHORT_S, LONG_S = 0.2, 30.0
ECHO = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as end:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while content := end.recv(100):
        end.sendall(content)
"""


class Peer:
    """Another process that is connected with this one, and sends back what it gets."""

    def __init__(self, listener: socket.socket) -> None:
        port = str(listener.getsockname()[1])
        self.process = subprocess.Popen([sys.executable, "-c", ECHO, port])
        listener.settimeout(LONG_S)
        self.end, _ = listener.accept()
        self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answers(self, content: bytes, timeout_s: float = LONG_S) -> bool:
        """Whether it sends ``content`` back in time."""
        self.end.sendall(content)
        self.end.settimeout(timeout_s)
        try:
            return self.end.recv(100) == content
        except TimeoutError:
            return False


@contextmanager
def peers(number: int) -> Iterator[list[Peer]]:
    found: list[Peer] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            for _ in range(number):
                found.append(Peer(listener))
            yield found
        finally:
            for peer in found:
                peer.end.close()
                peer.process.kill()
                peer.process.wait()


def test_the_one_is_cut_off_and_the_other_is_not() -> None:
    with peers(2) as (one, other):
        assert one.answers(b"a")
        assert other.answers(b"b")
        link = Link(one.process.pid, 1)
        link.start(None)
        assert not one.answers(b"c", SHORT_S)
        assert other.answers(b"d")
        link.heal()
        one.end.settimeout(LONG_S)
        assert one.end.recv(100) == b"c"


def test_without_knowing_the_ends_it_would_cut_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_opposite", dict)
    with peers(1) as (one,):
        link = Link(one.process.pid, 1)
        link.start(None)
        assert one.answers(b"a")
        link.heal()


def test_a_process_that_is_gone_is_linked_with_nobody() -> None:
    with peers(1) as (one,):
        link = Link(2**22 + 1, 1)
        link.start(None)
        assert one.answers(b"a")
        link.heal()


def test_a_meeting_with_the_one_that_is_cut_off_fails() -> None:
    told: list[FaultInjected] = []
    with peers(1) as (one,):
        injector = Injector(2, told.append, Reach(process=lambda _: one.process.pid))
        injector.order("partition w2 at step 3 before B from w1")
        injector.met([0, 1, 2])
        injector.at(2, "before", "B 0:3 m0")
        assert [each.fault for each in told] == ["partition w2 at step 3 before B from w1"]
        injector.met([0, 2])
        with pytest.raises(InjectedError, match="no connection to worker 1"):
            injector.met([0, 1, 2])
        assert injector.route("127.0.0.1:1") == "127.0.0.1:1"
        assert not one.answers(b"a", SHORT_S)


def test_a_worker_that_is_not_known_cannot_be_cut_off() -> None:
    injector = Injector(2, lambda _: None)
    injector.order("partition w2 at step 3 from w1")
    with pytest.raises(FaultError, match="no other worker is known"):
        injector.at(2, "before", "B 0:3 m0")
