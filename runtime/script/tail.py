"""Following a log file while a process writes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1 << 18
_TAIL_BYTES = 1 << 16


class Tail:
    """Reads what is added to a file; nothing is read twice or left out.

    With ``needles``, every line that contains one of them is also copied to ``copy``, with
    ``prefix`` in front.
    """

    def __init__(
        self,
        path: Path,
        *,
        needles: Sequence[str] = (),
        copy: BinaryIO | None = None,
        prefix: str = "",
    ) -> None:
        self._file = path.open("rb", buffering=0)
        self._needles = [needle.encode() for needle in needles]
        self._copy = copy
        self._prefix = prefix.encode()
        self._line = b""

    def read(self) -> bytes:
        """The next bytes, at most 256 KiB; empty at the present end of the file."""
        data = self._file.read(_CHUNK_BYTES)
        if self._needles:
            self._filter(data)
        return data

    def close(self) -> None:
        """Ends the following; a last line without an end counts as a line."""
        if self._line:
            self._filter(b"\n")
        self._file.close()

    def _filter(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if self._copy is not None and any(needle in line for needle in self._needles):
                self._copy.write(self._prefix + line + b"\n")
                self._copy.flush()


def last_text(path: Path) -> str:
    """The last 64 KiB of a file as text; empty when there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read().decode(errors="replace")
