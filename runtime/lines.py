"""Files of lines that are only ever appended to, whole lines, whatever a crash or a disk does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from ithaca.runtime.trim import trim


class LineFile:
    """Appends lines to an open file; one that a crash cut short at its end is removed first.

    Args:
        descriptor: of the file, opened by :func:`open_lines`; closed by :meth:`close`.

    Raises:
        OSError: the file cannot be read or cut.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = FileIO(descriptor, "r+")
        self._end = trim(descriptor)
        self._torn = False

    @property
    def is_open(self) -> bool:
        """Whether lines can be appended."""
        return not self._file.closed

    @property
    def is_ours(self) -> bool:
        """Whether nobody else has changed the file since it was opened."""
        return self._torn or os.fstat(self._file.fileno()).st_size == self._end

    def append(self, line: bytes) -> None:
        """Hand one line, with its end, to the operating system.

        Raises:
            OSError: it does not take it; what it took of it is no line, and goes with the next one.
        """
        file = self._file.fileno()
        if self._torn:
            os.ftruncate(file, self._end)
        self._torn, done = True, 0
        while done < len(line):
            done += os.write(file, line[done:])
        self._torn = False
        self._end += len(line)

    def sync(self) -> None:
        """Wait until all lines are on the disk; ``OSError`` if they do not get there."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, and unlock it if it was locked. Idempotent."""
        self._file.close()


def open_lines(path: Path, mode: int = 0o666) -> int:
    """A descriptor of ``path`` for a :class:`LineFile`; the file is made if it is not there.

    Raises:
        OSError: it can neither be opened nor made.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)


def whole_lines(path: Path) -> Iterator[bytes]:
    """Every line with its end; a last one that is cut short, or still being written, is left out.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line
