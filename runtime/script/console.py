"""What the user sees of the ranks: their lines on this process's stdout and stderr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import BinaryIO

from ithaca.runtime.script.ranks import Output
from ithaca.runtime.script.streams import Stream

_LINE_ENDS = (b"\n", b"\r")


class Console:
    """Writes whole lines, so that ranks do not cut into each other's.

    A line that is not ended (a prompt, a progress bar) is shown by :meth:`idle`.
    """

    def __init__(self, out: BinaryIO, err: BinaryIO) -> None:
        self._files = {Stream.OUT: out, Stream.ERR: err}
        self._prefixes: Mapping[tuple[int, Stream], bytes] = {}
        self._open: dict[tuple[int, Stream], bytes] = {}

    def expect(self, prefixes: Mapping[tuple[int, Stream], str]) -> None:
        """Names the prefix of each (rank, stream) of the attempt that begins; none for others."""
        self._prefixes = {key: prefix.encode() for key, prefix in prefixes.items()}
        self._open.clear()

    def write(self, outputs: Iterable[Output]) -> None:
        """Shows the lines that are whole; keeps the rest.

        Raises:
            BrokenPipeError: nobody reads what this process writes.
        """
        for output in outputs:
            key = (output.rank, output.stream)
            data = self._open.pop(key, b"") + output.data
            end = max(data.rfind(mark) for mark in _LINE_ENDS) + 1
            if end:
                self._show(key, data[:end])
            if data[end:]:
                self._open[key] = data[end:]
        self._flush()

    def idle(self, rank: int) -> None:
        """Shows what ``rank`` began and did not go on with, unless it carries a prefix."""
        for key in [key for key in self._open if key[0] == rank and key not in self._prefixes]:
            self._show(key, self._open.pop(key))
        self._flush()

    def end(self) -> None:
        """Shows the last lines, ended or not; a teed one gets its end."""
        for key in list(self._open):
            data = self._open.pop(key)
            self._show(key, data + b"\n" if key in self._prefixes else data)
        self._flush()

    def say(self, text: str) -> None:
        """A line of the launcher's own, on stderr."""
        self._files[Stream.ERR].write(text.encode() + b"\n")
        self._flush()

    def _show(self, key: tuple[int, Stream], data: bytes) -> None:
        prefix = self._prefixes.get(key)
        if prefix is not None:
            data = b"".join(prefix + line for line in data.splitlines(keepends=True))
        self._files[key[1]].write(data)

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
