"""Follows a run's event log while another process writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ithaca.runtime.events import Event
from ithaca.runtime.log import Parser
from ithaca.runtime.trim import trim

_MOST = 1 << 20
"""Bytes that are read at once."""


class Follower:
    """Reads what is appended to the log at ``path`` from the moment this is made.

    A line that a crash cut short at the end is removed first; so nobody may write meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parse = Parser()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._at = trim(self._file)

    def read(self) -> Iterator[Event]:
        """The events that were appended since; a line that is not whole yet waits.

        Raises:
            LogError: a line is no event of this version.
        """
        while True:
            block = os.pread(self._file, _MOST, self._at)
            whole = block.rfind(b"\n") + 1
            if whole == 0 and len(block) == _MOST:
                # One line longer than a block: there is no newline in it to stop at.
                block = os.pread(self._file, os.fstat(self._file).st_size - self._at, self._at)
                whole = block.rfind(b"\n") + 1
            if whole == 0:
                return
            self._at += whole
            for line in block[:whole].splitlines():
                yield self._parse(line, f"{self._path}, behind byte {self._at}")

    def close(self) -> None:
        """Read no more."""
        os.close(self._file)
