"""Changes of plan that no failure forces: they wait until everybody stands behind a step.

A plan that moves layers after a failure, a spare or a new worker that takes a part, a second holder
for a layer that has only one, and a worker that was asked to leave. All workers agree on the step
through their ballots; then they enter the new plan together.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ithaca.recovery.failure import Failure, FailureClass
from ithaca.runtime.crew import Silence
from ithaca.runtime.front import Desk
from ithaca.runtime.journal import Fencing, Journal
from ithaca.runtime.notes import Paused
from ithaca.runtime.recovery_run import Recovery

Pause = Callable[[int, Callable[[int | Silence], None]], None]
"""Asks a worker for a pause; the other function is told when the worker stands, or why not."""


class Changes:
    """Planned changes of one run; used by the controller's thread alone.

    Args:
        desk: shared with the control plane.
        recovery: decides, and carries a change out.
        journal: written before anybody stands still.
        pause: asks a worker for a pause.
        now: the run's clock in seconds.
    """

    def __init__(
        self,
        desk: Desk,
        recovery: Recovery,
        journal: Journal,
        pause: Pause,
        now: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._recovery = recovery
        self._journal = journal
        self._pause = pause
        self._now = now
        self._wanted = False
        self._departing: int | None = None
        self._standing: dict[int, int] = {}
        """Who stands still, and behind which step."""
        self._turn = 0
        self._pausing = False

    @property
    def under_way(self) -> bool:
        """Whether somebody may be standing still for a change."""
        return self._pausing

    def consider(self) -> None:
        """Something changed: look, when there is time, whether another plan is worth its way."""
        self._wanted = True

    def forget(self) -> None:
        """A failure came in between: whoever was to pause stands anyway."""
        self._pausing, self._departing = False, None
        self._wanted = True

    def paused(self, note: Paused) -> None:
        """A worker stands still, or will not."""
        if note.turn == self._turn and isinstance(note.answer, int):
            self._standing[note.worker] = note.answer

    def go_on(self) -> None:
        """Take the next step towards a change, if one is wanted. May begin a recovery."""
        if self._pausing:
            if self._standing.keys() >= set(self._desk.members.members):
                self._enter()
            return
        if self._done(self._desk.recorder.ledger.committed):
            return
        if self._recovery.goal is None and self._wanted:
            self._wanted = False
            self._departing = self._may_leave()
            if self._departing is None:
                self._recovery.consider()
        if self._recovery.goal is not None or self._departing is not None:
            self._begin()

    def _may_leave(self) -> int | None:
        """A worker that was asked to leave, if nobody needs it as the only holder of a layer."""
        members = self._desk.members
        for worker in sorted(members.leaving):
            if worker not in members.plan.workers:
                return worker
            alone = [
                layer
                for layer in members.plan.held(worker)
                if set(members.plan.holders(layer)) <= members.leaving
            ]
            if not alone:
                return worker
        return None

    def _done(self, step: int) -> bool:
        """Whether the job is done: no other plan is worth its way, and nobody has to leave."""
        return step >= self._desk.mission.job.steps

    def _begin(self) -> None:
        members = self._desk.members
        # A controller that takes over now must know that somebody may be waiting for it.
        self._journal.write(Fencing(time_s=time.time(), generation=members.generation + 1, lost={}))
        self._turn += 1
        self._standing = {}
        self._pausing = True
        for worker in members.members:
            self._pause(worker, self._told(worker, self._turn))

    def _told(self, worker: int, turn: int) -> Callable[[int | Silence], None]:
        return lambda answer: self._desk.mailbox.put(Paused(worker, turn, answer))

    def _enter(self) -> None:
        self._pausing = False
        worker, self._departing = self._departing, None
        if self._done(max(self._standing.values(), default=0)):
            self._recovery.drop_goal()
            return
        if worker is None:
            self._recovery.enter_goal()
            return
        now = self._now()
        self._recovery.answer(
            [
                Failure(
                    kind=FailureClass.NOTICE,
                    worker=worker,
                    node=self._desk.facts[worker].node,
                    generation=self._desk.members.generation,
                    step=self._desk.recorder.ledger.committed,
                    evidence="it was asked to leave",
                    seen_s=now,
                    since_s=now,
                )
            ]
        )
