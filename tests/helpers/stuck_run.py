"""Plays Programs until nothing moves because one worker does not; who stands where, then.

A slow and plain reference: no clock, one action at a time, sends never block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from ithaca.planner.program import (
    Action,
    Cargo,
    Compute,
    Op,
    Program,
    Reduce,
    Spread,
    Tie,
    Transfer,
)


@dataclass(frozen=True)
class Stand:
    """A worker's place: ``blocked`` says that it has begun the action and lacks something."""

    step: int
    position: int
    action: str
    blocked: bool


class StuckRun:
    """Two steps of ``programs``, in which ``victim`` never ends its action ``at`` of ``step``.

    Between two workers of ``apart`` nothing arrives.
    """

    def __init__(
        self,
        programs: Mapping[int, Program],
        victim: int | None,
        step: int,
        at: int,
        apart: frozenset[int] = frozenset(),
    ) -> None:
        self.apart = apart
        self.programs = programs
        self.victim, self.stuck = victim, (step, at)
        self.step = dict.fromkeys(programs, 0)
        self.position = dict.fromkeys(programs, 0)
        self.sent: set[tuple[int, int, Cargo, int, int]] = set()

    def play(self, rng: Random, moves: int | None = None) -> dict[int, Stand]:
        """Let workers advance in a random order until none can, or for so many moves."""
        while moves is None or moves > 0:
            able = [worker for worker in sorted(self.programs) if self._able(worker)]
            if not able:
                break
            self._advance(rng.choice(able))
            moves = None if moves is None else moves - 1
        return {worker: self._stand(worker) for worker in self.programs}

    def done(self, worker: int) -> bool:
        """Whether the worker has ended both steps."""
        return self.step[worker] == 2

    def _head(self, worker: int) -> Action:
        return self.programs[worker].actions[self.position[worker]]

    def _able(self, worker: int) -> bool:
        if self.done(worker):
            return False
        place = (self.step[worker], self.position[worker])
        return not (worker == self.victim and place == self.stuck) and self._ready(worker)

    def _ready(self, worker: int) -> bool:
        action, step = self._head(worker), self.step[worker]
        if isinstance(action, Compute):
            key = self._input(worker, action)
            return key is None or (step, worker, *key) in self.sent
        return all(
            not self.apart >= {worker, other} and self._arrived(other, step, action)
            for other in self._others(worker, action)
        )

    def _arrived(self, worker: int, step: int, action: Action) -> bool:
        at = self.programs[worker].actions.index(action)
        if worker == self.victim and (step, at) == self.stuck:
            return False  # it has come, and brings nothing
        return (self.step[worker], self.position[worker]) >= (step, at)

    def _others(self, worker: int, action: Action) -> list[int]:
        match action:
            case Reduce():
                everybody = [share.worker for share in action.shares]
            case Tie() | Spread():
                everybody = list(action.workers)
            case Transfer() | Compute():
                everybody = []
            case _:
                everybody = list(self.programs) if str(action) == "COMMIT" else []
        return [other for other in everybody if other != worker]

    def _input(self, worker: int, action: Compute) -> tuple[Cargo, int, int] | None:
        span, micro_batch = action.layers, action.micro_batch
        key = None
        if action.op is Op.F and span.first > 0:
            key = (Cargo.ACTIVATION, span.first, micro_batch)
        if action.op in (Op.B, Op.I) and span.last < self.programs[worker].num_layers:
            key = (Cargo.GRADIENT, span.last, micro_batch)
        received = {
            each.key
            for each in self.programs[worker].actions
            if isinstance(each, Transfer) and each.op is Op.RECV
        }
        return key if key in received else None

    def _advance(self, worker: int) -> None:
        action = self._head(worker)
        if (
            isinstance(action, Transfer)
            and action.op is Op.SEND
            and not self.apart >= {worker, action.peer}
        ):
            self.sent.add((self.step[worker], action.peer, *action.key))
        self.position[worker] += 1
        if self.position[worker] == len(self.programs[worker].actions):
            self.step[worker] += 1
            self.position[worker] = 0

    def _stand(self, worker: int) -> Stand:
        if self.done(worker):
            return Stand(2, -1, "ready", False)
        place = (self.step[worker], self.position[worker])
        stuck = worker == self.victim and place == self.stuck
        blocked = not stuck and not self._ready(worker)
        return Stand(*place, str(self._head(worker)), blocked)
