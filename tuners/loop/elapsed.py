"""How long a search has gone on, in a file beside its journal: time without processes is left out.

While a search goes on the file holds the wall clock's time of the first ask, later by all the time
in which no process was there, and its modification time says until when somebody was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ithaca.runtime.atomic import replace_file
from ithaca.runtime.errors import writing

FILE = "began"
_BEAT_S = 0.5
"""Seconds between two signs of life: so much at most is not counted of a search that was killed."""


class Elapsed:
    """Seconds of a search's budget that are used.

    Args:
        folder: of the search.
        clock: wall clock in seconds, the same in all processes.

    All that changes the file raises ``UnwritableError`` where the disk does not take it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = folder / FILE, clock
        self._origin_s: float | None = None
        self.before_s = 0.0
        """What was used before the search was taken up again."""
        self._beat_s = -float("inf")
        if self._path.exists():
            found = json.loads(self._path.read_text())
            self._origin_s, self.before_s = found["origin"], found["before"]

    @property
    def goes_on(self) -> bool:
        """Whether the time passes."""
        return self._origin_s is not None

    def now_s(self) -> float:
        """Seconds since the first ask; it stands still until :meth:`begin`."""
        return self.before_s if self._origin_s is None else self._clock() - self._origin_s

    def at_least(self, seconds: float) -> None:
        """While it stands still: so much was used, as something that was written down tells."""
        if not self.goes_on:
            self.before_s = max(self.before_s, seconds)

    def begin(self) -> None:
        """Let the time pass from now on."""
        self._origin_s = self._clock() - self.before_s
        self._write()

    def beat(self) -> None:
        """A sign of life, now and then."""
        now = self._clock()
        if self._origin_s is not None and now - self._beat_s > _BEAT_S:
            self._beat_s = now
            self._touch(now)

    def stand_still(self) -> None:
        """Take the search up: until it begins again no time passes, nor has it since the last sign
        of life."""
        if self._origin_s is not None:
            self.before_s = max(self._path.stat().st_mtime - self._origin_s, self.before_s)
            self._origin_s = None
            self._write()

    def _write(self) -> None:
        text = json.dumps({"origin": self._origin_s, "before": self.before_s})
        with writing(self._path):
            replace_file(self._path, [text.encode()])
        self._touch(self._clock())

    def _touch(self, now: float) -> None:
        with writing(self._path):
            os.utime(self._path, (now, now))
