"""The process of trials as an actor that reaches the others by their handles.

Whoever is handed an actor loads its class. This one loads what trains, and with it torch, only
where an actor is made: a coordinator starts without.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ithaca.runtime.config.job import Job
from ithaca.tuners.loop.orders import Look, Run
from ithaca.tuners.loop.state_folder import FOLDER

if TYPE_CHECKING:
    from ithaca.tuners.loop.state import Snapshot

_KEPT_S = 30.0
"""Longest wait for another process to take a state."""


class TrialActor:
    """Methods do what those of :class:`ithaca.tuners.loop.process.TrialProcess` do.

    Args:
        number: of the process.
        threads: intra-op threads.
        folder: of the search, where states are written too; None for nowhere.
    """

    def __init__(self, number: int, threads: int, folder: Path | None = None) -> None:
        from ithaca.tuners.loop.files import StateFiles
        from ithaca.tuners.loop.process import TrialProcess

        files = None if folder is None else StateFiles(folder / FOLDER)
        self._process = TrialProcess(number, threads, self._deliver, files)
        self._others: dict[int, Any] = {}

    def meet(self, numbers: tuple[int, ...], *handles: Any) -> int:  # noqa: ANN401 - Ray's
        """Get to know the others; the number of this process to the system."""
        self._others |= dict(zip(numbers, handles, strict=True))
        return os.getpid()

    def prepare(self, job: Job, options: BaseModel) -> Look:
        """Get warm with a step of a job."""
        return self._process.prepare(job, options)

    def begin(self, run: Run, state: Snapshot | None) -> bool:
        """Train a trial; whether it has begun."""
        return self._process.begin(run, state)

    def look(self, acknowledged: tuple[int, int] | None = None) -> Look:
        """How it is, as soon as a run ends or after a while."""
        return self._process.look(acknowledged)

    def keep(self, state: Snapshot) -> int:
        """Hold a state; its step."""
        return self._process.keep(state)

    def give(self, trial: int) -> Snapshot | None:
        """The state of a trial."""
        return self._process.give(trial)

    def send(self, trial: int, to: int) -> bool:
        """Let another process hold a trial's state too."""
        return self._process.send(trial, to)

    def partner(self, number: int) -> None:
        """Send further copies to another process."""
        self._process.partner(number)

    def drop(self, trials: tuple[int, ...]) -> None:
        """Give up states."""
        self._process.drop(trials)

    def _deliver(self, number: int, state: Snapshot) -> None:
        import ray

        other = self._others.get(number)
        if other is None:
            raise OSError(f"process {number} is not known here")
        try:
            ray.get(other.keep.remote(state), timeout=_KEPT_S)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            raise OSError(f"process {number} took no state: {error}") from error
