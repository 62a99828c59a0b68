"""Starts the processes of a search, as actors on a cluster; ends them with its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ithaca.runtime.answers import finished, result
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.errors import UserError
from ithaca.tuners.loop.orders import Look
from ithaca.tuners.loop.trial_actor import TrialActor

_CALLS = 16


class Hirer:
    """Starts processes on a cluster; they end with the one that it is in.

    Args:
        cluster: where.
        loaded: a job like those of the trials, to get warm with.
        folder: of the search; states are written there.
        first: number of the first process; none is used twice in a search.
    """

    def __init__(self, cluster: Cluster, loaded: LoadedJob, folder: Path, first: int = 0) -> None:
        import ray

        options = cluster.worker_options(loaded.job.cluster.threads)
        options |= {"max_concurrency": _CALLS, "max_restarts": 0}
        self._class: Any = ray.remote(TrialActor).options(**options)
        self._folder = folder.resolve()
        self._given = (loaded.job, loaded.workload_config)
        self._next = first
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
