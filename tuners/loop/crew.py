"""The processes of a search as actors: who starts them, and calls to them that never block."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ithaca.runtime import environment
from ithaca.runtime.answers import finished, result
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.errors import UserError
from ithaca.tuners.loop.files import FOLDER, StateFiles
from ithaca.tuners.loop.orders import Look, Run
from ithaca.tuners.loop.process import TrialProcess
from ithaca.tuners.loop.state import Snapshot

_CALLS = 16
_KEPT_S = 30.0
"""Longest wait for another process to take a state."""


def actor_class(base: type[TrialProcess] = TrialProcess) -> type[Any]:
    """The process as an actor that reaches the others by their handles."""

    class Actor(base):  # type: ignore[misc, valid-type]
        def __init__(self, number: int, threads: int, folder: Path | None = None) -> None:
            files = None if folder is None else StateFiles(folder / FOLDER)
            super().__init__(number, threads, self._deliver, files)
            self._others: dict[int, Any] = {}

        def meet(self, numbers: tuple[int, ...], *handles: Any) -> int:  # noqa: ANN401
            self._others |= dict(zip(numbers, handles, strict=True))
            return os.getpid()

        def _deliver(self, number: int, state: Snapshot) -> None:
            import ray

            other = self._others.get(number)
            if other is None:
                raise OSError(f"process {number} is not known here")
            try:
                ray.get(other.keep.remote(state), timeout=_KEPT_S)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
                raise OSError(f"process {number} took no state: {error}") from error

    return Actor


class Hirer:
    """Starts processes on a cluster; they end with the one that it is in.

    Args:
        cluster: where.
        loaded: a job like those of the trials, to get warm with.
        folder: of the search; states are written there.
    """

    def __init__(self, cluster: Cluster, loaded: LoadedJob, folder: Path) -> None:
        import ray

        options = cluster.worker_options() | {"max_concurrency": _CALLS, "max_restarts": 0}
        threads = loaded.job.cluster.threads
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if not (cluster.is_own and threads == 1 and _unset(variables)):
            # Otherwise Ray says so by itself, and its warm processes can be used.
            options |= {"runtime_env": {"env_vars": variables}}
        self._class: Any = ray.remote(actor_class()).options(**options)
        self._folder = folder.resolve()
        self._given = (loaded.job, loaded.workload_config)
        self._next = 0
        self.handles: dict[int, Any] = {}
        self._coming: dict[Any, int] = {}

    def begin(self) -> int:
        """Start one more; its number."""
        number, self._next = self._next, self._next + 1
        handle = self._class.remote(number, self._given[0].cluster.threads, self._folder)
        self.handles[number] = handle
        self._coming[handle.prepare.remote(*self._given)] = number
        return number

    def arrived(self, bound_s: float) -> dict[int, Any]:
        """Those that came up since the last call; one that was lost meanwhile is started again.

        Raises:
            UserError: the job cannot be trained.
        """
        import ray

        if not self._coming:
            return {}
        came = {}
        for future in finished(list(self._coming), bound_s):
            number, answer = self._coming.pop(future), result(future)
            if isinstance(answer, Look):
                came[number] = self.handles[number]
            elif isinstance(answer, ray.exceptions.RayActorError):
                del self.handles[number]
                self.begin()
            else:
                raise UserError(f"the job of this search cannot be trained: {answer}")
        return came

    def dismiss(self) -> None:
        """End all at once."""
        import ray

        if ray.is_initialized():
            for handle in self.handles.values():
                ray.kill(handle)
        self.handles.clear()


def _unset(variables: Mapping[str, str]) -> bool:
    """Whether our own environment, which Ray's processes get, gives none of them another value."""
    ours = environment.snapshot()
    return all(ours.get(name, value) == value for name, value in variables.items())


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
