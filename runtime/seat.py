"""The seat of controllers: a process of Ray's, on the driver's node, for one run after another.

Ray starts it again when it is lost. It takes a second to come up, so it is started beside the
workers, and kept for the next run where one follows.
"""

from __future__ import annotations

from typing import Any

from ithaca.runtime.cluster import manager_options
from ithaca.runtime.controller_process import ControllerProcess
from ithaca.runtime.timeouts import Timeouts


class Seat:
    """A process in which controllers work, until it is closed.

    Args:
        detect_s: of the jobs; how long its calls wait for a run to begin follows from it.
    """

    def __init__(self, detect_s: float) -> None:
        self._patience_s = Timeouts.from_detect(detect_s).join_s
        self._actor: Any = None

    def take(self) -> Any:  # noqa: ANN401 - Ray's handle
        """The actor; it is started, without waiting for it, where there is none."""
        import ray

        if self._actor is None:
            actor = ray.remote(ControllerProcess).options(**manager_options())
            self._actor = actor.remote(self._patience_s)
        return self._actor

    def close(self) -> None:
        """End the process, and whatever works in it."""
        import ray

        actor, self._actor = self._actor, None
        if actor is not None and ray.is_initialized():
            ray.kill(actor)
