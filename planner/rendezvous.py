"""The proof that a set of Programs cannot deadlock, by running them under the worst rules.

Every transfer and every collective blocks until all that take part have reached it. Under these
rules it does not matter in which order workers advance, as no action has a choice of partner; so a
single run decides. An engine whose sends do not block waits for less, and cannot deadlock either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ithaca.planner.dataflow import ProgramError
from ithaca.planner.program import (
    Action,
    Compute,
    Program,
    Reduce,
    Replay,
    Spread,
    Step,
    Tie,
    Transfer,
)


def check_progress(programs: Mapping[int, Program]) -> None:
    """Run ``programs`` to their ends; every action of several must be in each one's program once.

    Raises:
        ProgramError: workers wait for each other in a circle; the message follows it.
    """
    run = _Run(programs)
    awake = dict.fromkeys(programs)
    while awake:
        worker, _ = awake.popitem()
        while (action := run.head(worker)) is not None:
            if not isinstance(action, Compute | Step):
                if run.absent(worker, action) is not None:
                    break
                for other in run.others(worker, action):
                    run.position[other] += 1
                    awake[other] = None
            run.position[worker] += 1
    if any(run.head(worker) is not None for worker in programs):
        raise run.circle()


class _Run:
    """How far each worker has come."""

    def __init__(self, programs: Mapping[int, Program]) -> None:
        self.actions = {worker: program.actions for worker, program in programs.items()}
        self.position = dict.fromkeys(programs, 0)

    def head(self, worker: int) -> Action | None:
        """The action that ``worker`` has reached; None at its end."""
        actions, position = self.actions[worker], self.position[worker]
        return actions[position] if position < len(actions) else None

    def others(self, worker: int, action: Action) -> Iterable[int]:
        """Who else takes part in ``action`` of ``worker``."""
        match action:
            case Transfer(peer=peer):
                return (peer,)
            case Reduce(shares=shares):
                everybody: Iterable[int] = [share.worker for share in shares]
            case Tie(workers=workers) | Spread(workers=workers) | Replay(workers=workers):
                everybody = workers
            case _:
                everybody = self.actions
        return [other for other in everybody if other != worker]

    def absent(self, worker: int, action: Action) -> int | None:
        """One of the others who has not reached ``action``; None if all have."""
        for other in self.others(worker, action):
            head = self.head(other)
            if not (
                _meet(action, head, worker) if isinstance(action, Transfer) else head == action
            ):
                return other
        return None

    def circle(self) -> ProgramError:
        """The error that names a circle of workers each of which waits for the next."""
        path: list[int] = []
        worker = next(w for w in self.actions if self.head(w) is not None)
        while worker not in path:
            path.append(worker)
            action = self.head(worker)
            assert action is not None, "a counterpart was passed alone"
            waits_for = self.absent(worker, action)
            assert waits_for is not None, "a worker stands where nothing holds it"
            worker = waits_for
        names = [
            f"worker {w}, line {self.position[w] + 2} {str(self.head(w))!r}"
            for w in path[path.index(worker) :]
        ]
        message = "deadlock: " + " waits for ".join([*names, f"worker {worker}"])
        return ProgramError(message, worker, self.position[worker] + 2)


def _meet(action: Transfer, head: Action | None, worker: int) -> bool:
    """Whether ``head`` of the peer is the other end of ``action`` of ``worker``."""
    return (
        isinstance(head, Transfer)
        and head.op is not action.op
        and head.peer == worker
        and head.key == action.key
    )
