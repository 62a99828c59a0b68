"""Cuts a process off the network without root: its own sockets hear nothing and hardly speak.

A socket filter that keeps no byte drops what arrives before TCP sees it, acknowledgements
included; a pacing rate of some bytes a second holds back what is sent. Nothing is closed, so both
ends believe in the connection, as in a real partition. A packet or two still leave each connection
(ten, if it is so young that it has not sent ten yet); nothing comes back. See decision 0050.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ATTACH_FILTER, _DETACH_FILTER, _MAX_PACING_RATE = 26, 27, 47
_RETURN = 0x06
"""The instruction of classic BPF that ends a filter; with 0 it keeps no byte."""
_BYTES_PER_S, _UNLIMITED = 20, 0xFFFFFFFF
_LOOK_S = 0.005


class Partition:
    """All TCP sockets of this process, also those that it opens meanwhile.

    Raises:
        OSError: when started, if the kernel refuses the filter.
    """

    def __init__(self) -> None:
        self._cut: dict[int, int] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def over(self) -> bool:
        """Whether it has healed."""
        return self._over.is_set()

    @property
    def nowhere(self) -> str:
        """An address, ``host:port``, at which nobody ever answers: for connections made meanwhile.

        A filter can be put on a new connection only once it is made, which is too late: a beat
        would have got through.
        """
        host, port = self._deaf.getsockname()
        return f"{host}:{port}"

    def start(self, for_s: float | None) -> None:
        """Cut; heal after ``for_s`` seconds, from a thread of its own."""
        self._deaf = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._look()
        self._thread = threading.Thread(
            target=self._keep, args=(for_s,), name="partition", daemon=True
        )
        self._thread.start()

    def heal(self) -> None:
        """Join again, and wait until it is so."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, for_s: float | None) -> None:
        end = None if for_s is None else time.monotonic() + for_s
        while not self._over.wait(_LOOK_S) and (end is None or time.monotonic() < end):
            self._look()
        self._over.set()
        self._deaf.close()
        for descriptor, inode in sockets():
            if self._cut.get(descriptor) == inode:
                _change(descriptor, deaf=False)

    def _look(self) -> None:
        for descriptor, inode in self._meant():
            if self._cut.get(descriptor) != inode:
                _change(descriptor, deaf=True)
                self._cut[descriptor] = inode

    def _meant(self) -> Iterator[tuple[int, int]]:
        """File descriptor and inode of the sockets to cut; those cut already may be left out."""
        return sockets()


def sockets(pid: int | str = "self") -> Iterator[tuple[int, int]]:
    """File descriptor and inode of every socket of a process; none if it is gone."""
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return
    for entry in entries:
        with suppress(FileNotFoundError):
            kind, _, inode = os.readlink(entry).partition(":")
            if kind == "socket":
                yield int(entry.name), int(inode.strip("[]"))


def _change(descriptor: int, *, deaf: bool) -> None:
    try:
        copy = socket.socket(fileno=os.dup(descriptor))
    except OSError:  # closed meanwhile
        return
    with copy:
        if copy.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if copy.type != socket.SOCK_STREAM:
            return
        rate = _BYTES_PER_S if deaf else _UNLIMITED
        copy.setsockopt(socket.SOL_SOCKET, _MAX_PACING_RATE, struct.pack("I", rate))
        if deaf:
            instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
            program = struct.pack("HL", 1, ctypes.addressof(instruction))
            copy.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        else:
            copy.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
