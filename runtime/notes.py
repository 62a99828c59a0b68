"""What reaches the controller's thread: one mailbox for everything that happens."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Any

from ithaca.runtime.control.roll import Attend
from ithaca.runtime.crew import Silence
from ithaca.runtime.events import StateMoved, StepDone
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.orders import Facts, NotSaved, Outcome, Saved, Trouble
from ithaca.runtime.recorder import ReplicasDifferError


@dataclass(frozen=True, slots=True)
class Wake:
    """Something was noted elsewhere; look."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker's training ended, or that the worker will not tell; ``call`` asked for it."""

    worker: int
    call: int
    answer: Outcome | Trouble | Silence


@dataclass(frozen=True, slots=True)
class Wrote:
    """What a worker wrote for the checkpoint of a step."""

    step: int
    worker: int
    answer: Saved | NotSaved


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was committed; ``ledger`` is the one after it."""

    event: StepDone
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Moved:
    """A worker got states of others."""

    event: StateMoved


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker's stream of orders closed."""

    who: Attend


@dataclass(frozen=True, slots=True)
class Paused:
    """A worker stands still behind a step, as it was asked to in ``turn``, or why it does not."""

    worker: int
    turn: int
    answer: int | Silence


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker that came later has its assignment, or why it has not."""

    worker: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Differ:
    """Replicas of a layer differ."""

    error: ReplicasDifferError


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker that was asked for came up, or why it did not."""

    worker: int
    actor: Any
    facts: Facts | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """A worker is to leave."""

    worker: int


@dataclass(frozen=True, slots=True)
class HeadLost:
    """The cluster's head is gone: nothing can be started or placed any more."""

    reason: str


Note = (
    Wake
    | Ended
    | Wrote
    | Stepped
    | Moved
    | Gone
    | Paused
    | Ready
    | Differ
    | Joined
    | Leave
    | HeadLost
)


class Mailbox:
    """Notes in the order in which they came; put from any thread, taken from one."""

    def __init__(self) -> None:
        self._notes: queue.SimpleQueue[Note] = queue.SimpleQueue()

    def put(self, note: Note) -> None:
        """Add a note."""
        self._notes.put(note)

    def empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return self._notes.empty()

    def take(self, timeout_s: float) -> Note | None:
        """The next note; None if there is none within ``timeout_s`` seconds."""
        try:
            return self._notes.get(timeout=timeout_s) if timeout_s > 0 else self._notes.get_nowait()
        except queue.Empty:
            return None
