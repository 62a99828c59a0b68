"""Signals to the launcher, kept for the loop that passes them on."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """While entered, the given signals are noted in ``received`` instead of ending the process.

    One that is ignored stays so: under ``nohup`` a hang-up is nobody's wish to stop. To be entered
    in the main thread.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Any] = {}
        self.received: list[signal.Signals] = []

    def __enter__(self) -> Signals:
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
