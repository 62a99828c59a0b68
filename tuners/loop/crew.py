"""The processes of a search as its coordinator sees them: calls to actors that never block."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ithaca.runtime.answers import finished, result
from ithaca.tuners.loop.orders import Look, Run


class ActorCrew:
    """The coordinator's side: asks everybody how it is, again and again, and hears who is gone."""

    def __init__(self) -> None:
        self.handles: dict[int, Any] = {}
        self._looks: dict[Any, int] = {}
        self._begins: dict[Any, tuple[int, Callable[[bool], None]]] = {}
        self._acknowledged: dict[int, tuple[int, int]] = {}
        self.seen: dict[int, Look] = {}
        self.gone: list[int] = []

    @property
    def alive(self) -> tuple[int, ...]:
        """Numbers of all that are thought to live and have answered once."""
        return tuple(sorted(self.seen))

    def join(self, handles: Mapping[int, Any]) -> None:
        """New processes; everybody gets to know everybody."""
        self.handles |= handles
        numbers = tuple(self.handles)
        for handle in self.handles.values():
            handle.meet.remote(numbers, *self.handles.values())
        for number in handles:
            self._ask(number)

    def poll(self, bound_s: float) -> None:
        """Take in what came; waits at most ``bound_s`` seconds for something."""
        waiting = [*self._looks, *self._begins]
        if not waiting:
            return
        for future in finished(waiting, bound_s):
            answer = result(future)
            if future in self._begins:
                number, take = self._begins.pop(future)
                take(answer is True)
                continue
            number = self._looks.pop(future)
            if number not in self.handles:
                continue  # it was killed meanwhile
            if isinstance(answer, Look):
                self.seen[number] = answer
                if answer.outcome is None:
                    self._ask(number)  # otherwise when the outcome is acknowledged
            else:
                self._lose(number)

    def acknowledge(self, number: int, trial: int, run: int) -> None:
        """The outcome is written down."""
        if self._acknowledged.get(number) != (trial, run):
            self._acknowledged[number] = (trial, run)
            self._ask(number)

    def begin(
        self, number: int, run: Run, source: int | None, take: Callable[[bool], None]
    ) -> None:
        """Let a process train; with the state from ``source`` if that is another one.

        The state goes from process to process. ``take`` is told whether it has begun.
        """
        state = None
        if source is not None and source != number:
            state = self.handles[source].give.remote(run.trial)
        future = self.handles[number].begin.remote(run, state)
        self._begins[future] = (number, take)

    def send(self, number: int, trial: int, to: int) -> None:
        """Let a process give a copy of a state to another one."""
        self.handles[number].send.remote(trial, to)

    def partner(self, number: int, other: int) -> None:
        """Let further copies go to ``other``."""
        self.handles[number].partner.remote(other)

    def drop(self, number: int, trials: tuple[int, ...]) -> None:
        """Let a process forget states."""
        self.handles[number].drop.remote(trials)

    def kill(self, number: int) -> None:
        """End a process that does not end its run in time."""
        import ray

        look = self.seen.get(number)
        if look is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(look.pid, signal.SIGKILL)
        ray.kill(self.handles[number])
        self._lose(number)

    def _ask(self, number: int) -> None:
        future = self.handles[number].look.remote(self._acknowledged.get(number))
        self._looks[future] = number

    def _lose(self, number: int) -> None:
        del self.handles[number]
        self.seen.pop(number, None)
        self.gone.append(number)
