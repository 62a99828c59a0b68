"""A disk that is full after so many bytes."""

from __future__ import annotations

import errno
import os


class FullDisk:
    """Replaces ``os.write``: takes ``room`` bytes, then raises ENOSPC, as a full disk does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, file: int, data: bytes) -> int:
        """Write what there is room for."""
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self._write(file, data[: self.room])
        self.room -= done
        return done
