"""Cuts a process off one other process of the same machine: a link that is broken, and no more.

Both go on being heard by everybody else. The connections are found by their ends: the kernel lists
the address of each end of a connection with its socket, and a process's sockets can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ithaca.runtime.faults.partition import Partition, sockets

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


class Link(Partition):
    """All TCP connections between this process and another, also those made meanwhile.

    A connection is cut within milliseconds after it was made; so whoever makes new ones on purpose
    has to ask whether the link is cut.

    Args:
        pid: the other process.
        other: the worker that it is.

    Raises:
        OSError: when started, if the kernel refuses the filter.
    """

    def __init__(self, pid: int, other: int) -> None:
        super().__init__()
        self.other = other
        self._pid = pid
        self._elsewhere: set[int] = set()
        """Sockets whose other end is known and not in the other process."""

    def _meant(self) -> Iterator[tuple[int, int]]:
        new = [
            (descriptor, inode)
            for descriptor, inode in sockets()
            if inode not in self._elsewhere and self._cut.get(descriptor) != inode
        ]
        if not new:
            return
        opposite, theirs = _opposite(), {inode for _, inode in sockets(self._pid)}
        for descriptor, inode in new:
            # None: no connection, or not yet; 0: the other end has not taken it yet.
            end = opposite.get(inode)
            if end in theirs:
                yield descriptor, inode
            elif end:
                self._elsewhere.add(inode)


def _opposite() -> dict[int, int]:
    """Of each socket of a connection within this machine the socket at its other end."""
    ends: dict[tuple[str, str], int] = {}
    for table in _TABLES:
        with suppress(FileNotFoundError):
            for line in table.read_text().splitlines()[1:]:
                words = line.split()
                ends[words[1], words[2]] = int(words[9])
    return {
        inode: ends[remote, local]
        for (local, remote), inode in ends.items()
        if (remote, local) in ends
    }
