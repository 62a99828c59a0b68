"""The process of a coordinator, and what the driver of a search asks of it.

It starts, at first and whenever it is lost, without torch, which takes seconds: it hands jobs on as
recipes, and knows states by their names.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ithaca.runtime.errors import UserError
from ithaca.runtime.lock import RunLock
from ithaca.tuners.loop.coordinator import Coordinator, Summary
from ithaca.tuners.loop.crew import ActorCrew
from ithaca.tuners.loop.load import LoadedTune

_LOOK_S = 0.05
_LEAVES_S = 60.0
"""Longest wait for the coordinator of a driver that was killed to end."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A coordinator's answer to the driver: its process, how it stands, and what ended it.

    ``gone``: numbers of processes that were lost; ``pids``: process by number of those that live.
    """

    pid: int
    summary: Summary | None
    gone: tuple[int, ...] = ()
    pids: tuple[tuple[int, int], ...] = ()
    refused: UserError | None = None
    broken: str = ""


class CoordinatorProcess:
    """A coordinator in a process of its own, made from what its predecessor was made from."""

    def __init__(self, tune: LoadedTune, folder: Path) -> None:
        self._tune, self._folder = tune, folder
        self._crew = ActorCrew()
        self._joining: list[tuple[tuple[int, ...], tuple[Any, ...]]] = []
        self._thread: threading.Thread | None = None
        self._summary: Summary | None = None
        self._gone: set[int] = set()
        self._refused: UserError | None = None
        self._broken = ""

    def begin(self, numbers: tuple[int, ...], *handles: Any) -> None:  # noqa: ANN401 - Ray's
        """Work with these processes; once."""
        if self._thread is None:
            self.join(numbers, *handles)
            self._thread = threading.Thread(
                target=self._work, args=(frozenset(numbers),), name="coordinator", daemon=True
            )
            self._thread.start()

    def join(self, numbers: tuple[int, ...], *handles: Any) -> None:  # noqa: ANN401
        """More processes."""
        self._joining.append((numbers, handles))

    def pulse(self) -> Pulse:
        """How it stands."""
        return Pulse(
            os.getpid(),
            self._summary,
            tuple(self._gone),
            tuple((number, look.pid) for number, look in list(self._crew.seen.items())),
            self._refused,
            self._broken,
        )

    def _work(self, expected: frozenset[int]) -> None:
        try:
            with _alone(self._folder):
                coordinator = Coordinator(self._tune, self._folder, self._crew, time.time, expected)
                try:
                    self._turns(coordinator)
                finally:
                    coordinator.close()
        except UserError as error:
            self._refused = error
        except BaseException:
            self._broken = traceback.format_exc()

    def _turns(self, coordinator: Coordinator) -> None:
        while self._summary is None or not self._summary.over:
            while self._joining:
                numbers, handles = self._joining.pop(0)
                self._crew.join(dict(zip(numbers, handles, strict=True)))
            before = set(self._crew.handles)
            summary = coordinator.turn(_LOOK_S)
            self._gone |= before - set(self._crew.handles)
            # Behind the line before: who is told of a loss is told whose it was.
            self._summary = summary


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds what only one coordinator may hold; that of a driver that was killed ends soon.

    Raises:
        UserError: it does not end.
    """
    lock, rest = RunLock(folder / "coordinator"), threading.Event()
    until = time.monotonic() + _LEAVES_S
    while True:
        try:
            lock.acquire()
            break
        except UserError:
            if time.monotonic() > until:
                raise
        rest.wait(_LOOK_S)
    try:
        yield
    finally:
        lock.release()
