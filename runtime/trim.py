"""Files of lines that a crash may have cut short."""

from __future__ import annotations

import os

_BLOCK = 1 << 16


def trim(file: int) -> int:
    """Remove a last line without its end from the open ``file``; the length left, in bytes."""
    size = os.fstat(file).st_size
    end = size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end
