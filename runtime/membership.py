"""Who takes part in a run, and in which generation: the fence that zombies do not pass (I6)."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from ithaca.planner.plan import Plan
from ithaca.recovery.strategy import single_holders
from ithaca.runtime.control.surface import Fenced


class Membership:
    """Changed by the controller's thread alone, read by all.

    Attributes:
        plan: the newest under which all workers trained, or are about to.
        generation: the newest that was begun.
        settled: the newest in which all workers trained.
        lost: workers that take part no longer, with the reason; for ever.
        spares: workers that are warm and in no plan.
        coming: workers that were started and do not have their assignment yet.
        leaving: workers that were asked to leave, or are known to.
    """

    def __init__(self, plan: Plan, crew: Iterable[int]) -> None:
        self._lock = threading.Lock()
        self.plan = plan
        self.generation = plan.generation
        self.settled = plan.generation
        self.lost: dict[int, str] = {}
        self.spares: set[int] = set(crew) - set(plan.workers)
        self.coming: set[int] = set()
        self.leaving: set[int] = set()

    @property
    def members(self) -> tuple[int, ...]:
        """Workers of the plan that are not lost, ascending."""
        with self._lock:
            return tuple(worker for worker in self.plan.workers if worker not in self.lost)

    @property
    def known(self) -> frozenset[int]:
        """Everybody who may take part: members and spares."""
        with self._lock:
            return (frozenset(self.plan.workers) | self.spares) - self.lost.keys()

    @property
    def needed(self) -> frozenset[int]:
        """Members without which a layer would have no holder."""
        with self._lock:
            alone = single_holders(self.plan)
            return frozenset(self.plan.holders(layer)[0] for layer in alone) - self.lost.keys()

    def admit(self, worker: int, generation: int) -> None:
        """Let a message of ``worker`` in.

        A spare has no part in any generation: it is in the one in which it last had one.

        Raises:
            Fenced: it is lost, or not known, or has a part and is of a generation before the last
                settled one.
        """
        with self._lock:
            inside = worker in (*self.plan.workers, *self.spares, *self.coming)
            old = worker in self.plan.workers and 0 <= generation < self.settled
            if worker in self.lost or not inside or old:
                raise Fenced(generation, self.generation)

    def begin(self, lost: dict[int, str]) -> int:
        """A new generation without ``lost``; its number."""
        with self._lock:
            self.generation += 1
            self.lost |= lost
            self.spares -= lost.keys()
            self.leaving -= lost.keys()
            return self.generation

    def raise_to(self, generation: int) -> None:
        """Somebody is known to have been told of ``generation``."""
        with self._lock:
            self.generation = max(self.generation, generation)

    def enter(self, plan: Plan) -> None:
        """All workers of ``plan`` are about to train under it; the others are spares."""
        with self._lock:
            everybody = (set(self.plan.workers) | self.spares) - self.lost.keys()
            self.plan = plan
            self.spares = everybody - set(plan.workers)

    def settle(self) -> None:
        """All workers of the plan are in its generation: nothing older is let in."""
        with self._lock:
            self.settled = self.plan.generation
            self.generation = max(self.generation, self.settled)

    def take_over(self, plan: Plan, generation: int, lost: dict[int, str]) -> None:
        """Go on where another controller was: under ``plan``, ``generation`` begun."""
        with self._lock:
            everybody = set(self.plan.workers) | self.spares
            self.plan, self.settled = plan, plan.generation
            self.generation = max(generation, plan.generation)
            self.lost = dict(lost)
            self.spares = everybody - set(plan.workers) - lost.keys()

    def retire(self, worker: int, reason: str) -> None:
        """A spare takes part no longer."""
        with self._lock:
            self.spares.discard(worker)
            self.coming.discard(worker)
            self.leaving.discard(worker)
            self.lost[worker] = reason

    def expect(self, worker: int) -> None:
        """A new worker is on its way: it may speak, and has no part yet."""
        with self._lock:
            self.coming.add(worker)

    def join(self, worker: int) -> None:
        """A new worker is ready, as a spare."""
        with self._lock:
            self.coming.discard(worker)
            if worker not in self.lost and worker not in self.plan.workers:
                self.spares.add(worker)
