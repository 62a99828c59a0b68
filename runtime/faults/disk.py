"""A disk that is full, broken or slow for its next writes."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from ithaca.recovery.fault import Fault, FaultKind
from ithaca.runtime.atomic import Disk

_ERRNO = {FaultKind.DISK_FULL: errno.ENOSPC, FaultKind.DISK_ERROR: errno.EIO}


class FaultyDisk(Disk):
    """Behaves as a :class:`Disk` but for writes that a fault was ordered for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[Fault] = []

    def spoil(self, fault: Fault) -> None:
        """Let the next ``fault.times`` writes meet ``fault``."""
        with self._lock:
            self._left += [fault] * fault.times

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Write, or fail with ENOSPC or EIO, or take longer."""
        with self._lock:
            fault = self._left.pop(0) if self._left else None
        if fault is not None and fault.kind in _ERRNO:
            number = _ERRNO[fault.kind]
            raise OSError(number, os.strerror(number), str(path))
        if fault is not None:
            time.sleep(fault.for_s or 0.0)
        super().write(path, chunks)
