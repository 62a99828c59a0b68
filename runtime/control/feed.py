"""The run's events for those who watch: a bounded ring that no reader can hold up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True, slots=True)
class FeedSlice:
    """A part of the feed.

    Attributes:
        lost: lines before ``first`` that were asked for and are gone.
        first: sequence number of ``lines[0]``, or of the next line when there is none here.
        lines: JSON, without newlines.
        ended: nothing comes after this slice.
    """

    lost: int
    first: int
    lines: tuple[str, ...]
    ended: bool = False

    @property
    def next(self) -> int:
        """The sequence number to go on from."""
        return self.first + len(self.lines)


class EventFeed:
    """JSON lines numbered 0, 1, 2, ...; the last ones are kept for readers.

    ``append`` never waits for a reader. Readers keep a number of their own and ask for what comes
    from there on; one that is too slow is told how many lines it lost. All methods may be called
    from any thread.

    Args:
        capacity: lines kept.
        capacity_bytes: UTF-8 bytes kept; the oldest lines go when either bound is passed.
        longest_bytes: a longer line keeps its number, but its text counts as lost.
    """

    def __init__(
        self, capacity: int = 4096, capacity_bytes: int = 1 << 24, longest_bytes: int = 1 << 20
    ) -> None:
        if not (capacity >= 1 and capacity_bytes >= longest_bytes >= 1):
            raise ValueError("a feed keeps at least one line of the longest kind")
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._longest_bytes = longest_bytes
        self._changed = threading.Condition()
        self._ring: deque[tuple[str | None, int]] = deque()
        self._bytes = 0
        self._next = 0
        self._closed = False

    @property
    def next(self) -> int:
        """The number that the next line will get: how many there have been."""
        with self._changed:
            return self._next

    def append(self, line: str) -> int:
        """Adds a line, wakes the readers, and returns the line's number.

        Raises:
            ValueError: the line has a newline in it.
            RuntimeError: the feed is closed.
        """
        if "\n" in line or "\r" in line:
            raise ValueError(f"an event is one line, not {line[:80]!r}")
        size = len(line.encode())
        with self._changed:
            if self._closed:
                raise RuntimeError("an event came after the feed was closed")
            too_long = size > self._longest_bytes
            self._ring.append((None, 0) if too_long else (line, size))
            self._bytes += 0 if too_long else size
            while len(self._ring) > self._capacity or self._bytes > self._capacity_bytes:
                self._bytes -= self._ring.popleft()[1]
            self._next += 1
            self._changed.notify_all()
            return self._next - 1

    def close(self) -> None:
        """Says that the run has ended: readers get what is left and then the end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Makes waiting readers ask their ``given_up`` again."""
        with self._changed:
            self._changed.notify_all()

    def read(
        self,
        first: int,
        timeout_s: float = 0.0,
        limit: int = 256,
        limit_bytes: int = 1 << 20,
        given_up: Callable[[], bool] | None = None,
    ) -> FeedSlice:
        """The lines from number ``first`` on; ``-n`` asks for the last n.

        Waits until there is a line, the feed is closed or ``given_up()`` is true, at most
        ``timeout_s`` seconds; the slice is empty when there was nothing. It has at most ``limit``
        lines and, beyond its first line, ``limit_bytes`` bytes. A number not reached yet is taken
        as the next one.
        """
        with self._changed:
            first = max(0, self._next + first) if first < 0 else min(first, self._next)
            self._changed.wait_for(
                lambda: self._next > first or self._closed or (given_up is not None and given_up()),
                timeout=timeout_s,
            )
            return self._slice(first, limit, limit_bytes)

    def _slice(self, first: int, limit: int, limit_bytes: int) -> FeedSlice:
        oldest = self._next - len(self._ring)
        start = max(first, oldest)
        lines: list[str] = []
        taken = 0
        for line, size in islice(self._ring, start - oldest, None):
            if line is None:
                if lines:
                    break
                start += 1
            elif len(lines) == limit or (lines and taken + size > limit_bytes):
                break
            else:
                lines.append(line)
                taken += size
        ended = self._closed and start + len(lines) == self._next
        return FeedSlice(start - first, start, tuple(lines), ended)
