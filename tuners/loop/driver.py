"""The process that owns the cluster of a search: hires processes, keeps a coordinator alive.

Everything that it started ends with it. A coordinator that is lost is started again by Ray, and
introduced to the processes that live.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ithaca.runtime.answers import finished, result
from ithaca.runtime.cluster import Cluster, ClusterError, manager_options
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.errors import UnwritableError, UserError
from ithaca.runtime.lock import RunLock
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.coordinator_process import CoordinatorProcess, Pulse
from ithaca.tuners.loop.elapsed import Elapsed
from ithaca.tuners.loop.hirer import Hirer
from ithaca.tuners.loop.load import LoadedTune, middle
from ithaca.tuners.loop.record import LOG, next_process
from ithaca.tuners.loop.state_folder import FOLDER, StateFolder

_LOOK_S = 0.05
_UP_S = 120.0
"""Longest wait for the first processes."""

Tell = Callable[[Summary], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a search ended.

    Attributes:
        summary: the last one.
        startup_s: from the call to the first ask.
        stopped: before its end, by the user or, if there is a reason, for that.
        reason: why it could not go on.
    """

    summary: Summary
    startup_s: float
    stopped: bool = False
    reason: str = ""


class Driver:
    """Drives one search.

    Args:
        tune: the search.
        folder: of the search.
        tell: told how it stands, several times a second.
    """

    def __init__(self, tune: LoadedTune, folder: Path, tell: Tell) -> None:
        self._tune, self._folder, self._tell = tune, folder, tell
        self._alive: dict[int, Any] = {}
        self._actor: Any = None
        self._asked: Any = None
        self._pid: int | None = None
        self._missing: set[int] = set()
        self.stopping = False
        self.pids: dict[int, int] = {}
        """Processes by number, for drills."""

    @property
    def coordinator(self) -> int | None:
        """Process of the coordinator, for drills; None while there is none."""
        return self._pid

    def run(self, cluster: Cluster, loaded: LoadedJob, began_s: float) -> Ended:
        """Drive the search to its end.

        Args:
            cluster: where.
            loaded: a job like those of the trials.
            began_s: when the user called, by ``time.monotonic``.

        Raises:
            UserError: the search cannot be carried out.
            RuntimeError: a mistake of ours ended the coordinator.
        """
        hirer = Hirer(cluster, loaded, self._folder, next_process(self._folder / LOG))
        Elapsed(self._folder, time.time).stand_still()
        try:
            self._actor = _start(self._tune, self._folder)
            self._first(hirer)
            return self._watch(hirer, began_s)
        finally:
            self._stop()
            hirer.dismiss()

    def _first(self, hirer: Hirer) -> None:
        tune = self._tune.tune
        size = max(tune.workers + tune.spares, 2)  # a copy needs a second process
        for _ in range(size):
            hirer.begin()
        until = time.monotonic() + _UP_S
        while len(self._alive) < size:
            self._alive |= hirer.arrived(_LOOK_S)
            if time.monotonic() > until:
                raise UserError(
                    f"{len(self._alive)} of {size} processes came up within {_UP_S:g} s; is "
                    "there room for them on this machine?"
                )

    def _watch(self, hirer: Hirer, began_s: float) -> Ended:
        startup_s, last = 0.0, None
        while True:
            try:
                pulse = self._pulse()
            except UnwritableError as error:
                if last is None:
                    raise
                return Ended(last, startup_s, True, str(error))
            if pulse is not None:
                self._meet(pulse)
                self._replace(pulse, hirer)
                summary = pulse.summary
                if summary is not None:
                    last = summary
                    here_s = summary.now_s - summary.before_s
                    if here_s > 0 and not startup_s:
                        startup_s = time.monotonic() - began_s - here_s
                    self._tell(summary)
                    if summary.over or self.stopping:
                        return Ended(summary, startup_s, not summary.over)
            came = hirer.arrived(0.0)
            if came:
                self._alive |= came
                self._actor.join.remote(tuple(came), *came.values())

    def _pulse(self) -> Pulse | None:
        answer = self._ask()
        if answer is None:
            return None
        if not isinstance(answer, Pulse):
            self._pid = None  # Ray starts it again
            time.sleep(_LOOK_S)
            return None
        if answer.refused is not None:
            raise answer.refused
        self.pids = dict(answer.pids)
        if answer.broken:
            raise RuntimeError(f"the coordinator broke:\n{answer.broken}")
        return answer

    def _ask(self) -> Any:  # noqa: ANN401 - a pulse, or what Ray says of one that is lost
        """The coordinator's answer; None while there is none."""
        if self._asked is None:
            self._asked = self._actor.pulse.remote()
        if not finished([self._asked], _LOOK_S):
            return None
        answer, self._asked = result(self._asked), None
        return answer

    def _meet(self, pulse: Pulse) -> None:
        """A coordinator that is new gets to know everybody."""
        if pulse.pid != self._pid:
            self._pid = pulse.pid
            self._missing.clear()
            self._actor.begin.remote(tuple(self._alive), *self._alive.values())
        else:
            time.sleep(_LOOK_S)

    def _replace(self, pulse: Pulse, hirer: Hirer) -> None:
        for number in pulse.gone:
            if number in self._alive:
                del self._alive[number]
                hirer.begin()

    def _stop(self) -> None:
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
            if self._pid is not None:
                # At once: it would see the processes go, and write down that they were lost.
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)


def _start(tune: LoadedTune, folder: Path) -> Any:  # noqa: ANN401 - Ray's handle
    import ray

    actor = ray.remote(CoordinatorProcess).options(**manager_options())
    return actor.remote(tune, folder.resolve())


def search(
    tune: LoadedTune,
    folder: Path,
    tell: Tell,
    on_driver: Callable[[Driver], None] = lambda _: None,
    began_s: float | None = None,
) -> Ended:
    """Carry a search out, from the cluster to the last trial.

    ``began_s`` is when the user called, by ``time.monotonic``; default: now.

    Raises:
        UserError: the folder, the cluster or the search cannot be used.
    """
    began_s = time.monotonic() if began_s is None else began_s
    arm = tune.tune.make_arms()[0]
    loaded = tune.job(arm.full(middle(arm.space)))
    settings = loaded.job.cluster
    size = max(tune.tune.workers + tune.tune.spares, 2)
    with RunLock(folder):
        try:
            # One place more: that of a lost process is free only when Ray has seen it end.
            cluster = Cluster.start(
                2 * size, settings.address, interface=settings.interface, paths=[Path.cwd()]
            )
        except ClusterError as error:
            raise UserError(str(error)) from error
        with cluster:
            driver = Driver(tune, folder, tell)
            on_driver(driver)
            ended = driver.run(cluster, loaded, began_s)
        if ended.summary.over:
            StateFolder(folder / FOLDER).clear()
        return ended
