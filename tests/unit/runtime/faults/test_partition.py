"""A partition: nothing arrives, next to nothing leaves, nothing is closed, and it heals."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ithaca.runtime.faults import partition as partition_module
from ithaca.runtime.faults.partition import Partition, sockets

SHORT_S, LONG_S = 0.2, 30.0
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection; only the first is in the part that is cut off."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(listener.getsockname()))
        theirs, _ = listener.accept()
        stack.enter_context(theirs)
        for end in (ours, theirs):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs


def cut(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Partition:
    """Only our end: both are in this process."""
    ours = pair[0].fileno()
    inode = os.fstat(ours).st_ino
    monkeypatch.setattr(partition_module, "sockets", lambda: iter([(ours, inode)]))
    return Partition()


def read(end: socket.socket, timeout_s: float) -> bytes:
    """What is there within the time, or nothing."""
    end.settimeout(timeout_s)
    try:
        return end.recv(65536)
    except TimeoutError:
        return b""


def test_nothing_arrives_until_it_heals(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    cutting = cut(pair, monkeypatch)
    cutting.start(None)
    theirs.sendall(b"hello")
    assert read(ours, SHORT_S) == b""
    cutting.heal()
    assert read(ours, LONG_S) == b"hello"


def test_next_to_nothing_leaves(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    for _ in range(12):  # the kernel never holds back the first ten packets of a connection
        ours.sendall(b"y")
        assert read(theirs, LONG_S) == b"y"
    cutting = cut(pair, monkeypatch)
    cutting.start(None)
    arrived = b""
    for _ in range(8):
        ours.sendall(b"x" * 100)
        arrived += read(theirs, SHORT_S / 4)
    assert len(arrived) <= 300
    cutting.heal()


def test_new_connections_lead_nowhere_until_it_heals(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "sockets", sockets)
    cutting = Partition()
    cutting.start(None)
    assert not cutting.over
    host, port = cutting.nowhere.split(":")
    with socket.socket() as caller:
        caller.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            caller.connect((host, int(port)))
    cutting.heal()
    assert cutting.over


def test_it_ends_by_itself(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    cut(pair, monkeypatch).start(0.05)
    theirs.sendall(b"hello")
    assert read(ours, LONG_S) == b"hello"


def test_without_the_filter_everything_arrives(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    cutting = cut(pair, monkeypatch)
    monkeypatch.setattr(partition_module, "_change", lambda fd, *, deaf: None)
    cutting.start(None)
    theirs.sendall(b"hello")
    assert read(ours, LONG_S) == b"hello"
    cutting.heal()


def test_all_sockets_of_the_process_are_seen(pair: Pair) -> None:
    seen = {descriptor for descriptor, _ in sockets()}
    assert {end.fileno() for end in pair} <= seen
