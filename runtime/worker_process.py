"""The process of a worker: what a controller calls in it.

The class knows nothing of Ray; :mod:`ithaca.runtime.agency` makes an actor of it. Whoever is handed
a worker's actor loads this class. It loads the worker itself, and with it torch, only where one is
made: a controller starts without.
"""

from __future__ import annotations

import os

from ithaca.recovery.standing import Standing
from ithaca.runtime.orders import Assignment, Deployment, Facts, NotSaved, Outcome, Saved, Trouble
from ithaca.runtime.parent import watch_parent


class WorkerProcess:
    """A worker as an actor; methods do what those of :class:`ithaca.runtime.worker.Worker` do."""

    def __init__(self, threads: int, device: str, interface: str | None) -> None:
        from ithaca.runtime.worker import Worker

        self._worker = Worker(threads, device, interface)
        self._daemon = os.getppid()

    def watch_node(self, bound_s: float) -> None:
        """Complain when the node's daemon stands still for so long, or is gone."""
        watch_parent(self._daemon, bound_s, self._worker.complain)

    def facts(self, address: str) -> Facts:
        """Who and where it is."""
        return self._worker.facts(address)

    def assign(self, assignment: Assignment) -> None:
        """Build the layers of a new assignment."""
        self._worker.assign(assignment)

    def adopt(self, deployment: Deployment) -> bool:
        """Enter a generation."""
        return self._worker.adopt(deployment)

    def train(self) -> Outcome | Trouble:
        """Train to the end, a drain or a trouble."""
        return self._worker.train()

    def stand(self, generation: int) -> Standing:
        """Stand still; what it holds."""
        return self._worker.stand(generation)

    def pause(self) -> int:
        """Stand still behind the step; its number."""
        return self._worker.pause()

    def complain(self, reason: str) -> None:
        """Tell the controller why this worker cannot be counted on."""
        self._worker.complain(reason)

    def dump(self) -> str:
        """The stacks of its threads."""
        return self._worker.dump()

    def save(self, step: int, folder: str) -> Saved | NotSaved:
        """Write its part of a checkpoint."""
        return self._worker.save(step, folder)

    def release(self) -> None:
        """Give up layers, connections and the heart."""
        self._worker.release()
