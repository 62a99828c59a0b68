"""SIGINT and SIGTERM: the first drains the run, the second ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ithaca.runtime.driver import Driver


class StoppedError(BaseException):
    """The second signal: end at once. Not an ``Exception``, so that nothing swallows it.

    Attributes:
        kind: the signal.
    """

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self.kind = kind

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + self.kind


class Stops:
    """Handles both signals while a job runs.

    Args:
        say: shows a line to the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._driver: Driver | None = None
        self._asked = False

    def control(self, driver: Driver) -> None:
        """The driver whose run the first signal drains."""
        self._driver = driver
        if self._asked:
            driver.request_drain()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle the signals inside the block; as before behind it."""
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self._stop) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _stop(self, kind: int, frame: FrameType | None) -> None:
        if self._asked:
            raise StoppedError(kind)
        self._asked = True
        if self._driver is None:
            # Nothing is trained yet that could be lost.
            raise StoppedError(kind)
        self._say("finishing the step and writing a checkpoint; once more to stop at once")
        self._driver.request_drain()
