"""What a controller offers to its control plane, in plain frozen values: no gRPC in here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.roll import Attend, Post


class Command(Enum):
    """What the controller wants of a worker: ``drain`` after this step, or ``stop`` now."""

    NONE = "none"
    DRAIN = "drain"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker as the controller knows it.

    Attributes:
        id: the worker's number in the plan.
        node: the machine it is on, as the cluster names it.
        pid: its process on that machine.
        state: the controller's word for it, such as ``running``.
        step: the step its last beat told.
        action: the action its last beat told, as text; empty before the first.
        since_s: seconds it had been in that action when it beat.
        age_s: seconds since the last beat; None before the first.
    """

    id: int
    node: str
    pid: int
    state: str
    step: int = 0
    action: str = ""
    since_s: float = 0.0
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One moment of a run. It has no place for the token.

    Attributes:
        name: the job's.
        state: the controller's word for it, such as ``training``.
        step: the last committed step; 0 before the first.
        steps: how many steps the job has.
        loss: of the last committed step; None before it.
        throughput: terms of the loss (tokens, graphs, ...) per second; None when not known.
        generation: of the plan in force.
        plan: the plan in its text form.
        workers: by ascending id.
        started: seconds since the epoch.
        checkpoint_step: the last step that a verified checkpoint holds; None before the first.
    """

    name: str
    state: str
    step: int
    steps: int
    loss: float | None
    throughput: float | None
    generation: int
    plan: str
    workers: tuple[WorkerStatus, ...]
    started: float
    checkpoint_step: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON line a worker reports; ``sequence`` counts 1, 2, 3, ... in one incarnation."""

    sequence: int
    line: str


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life.

    Attributes:
        worker: its number in the plan.
        incarnation: names the process; a new process of the same worker counts records anew.
        generation: of the plan it works on.
        step: the step it is in.
        action: what it is doing, as text.
        since_s: seconds it has been doing that.
        acknowledged: sequence number of the last record it knows was taken; 0 for none.
        expected_s: seconds that the action is expected to take; 0.0 when that is not known.
        complaint: why the worker cannot be counted on much longer, in its own words; empty if it
            can.
        records: not known to have been taken, by ascending sequence number. A gap means that the
            worker had to drop what was in it.
    """

    worker: int
    incarnation: str
    generation: int
    step: int
    action: str
    since_s: float
    acknowledged: int = 0
    records: tuple[Record, ...] = ()
    expected_s: float = 0.0
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class BeatReply:
    """The answer: a command, the run's generation, and the last record taken."""

    command: Command
    generation: int
    acknowledged: int


class Fenced(Exception):
    """A beat of an older generation: whoever sent it is no longer part of the run (I6).

    Attributes:
        given: the beat's generation.
        generation: the run's.
    """

    def __init__(self, given: int, generation: int) -> None:
        super().__init__(given, generation)
        self.given = given
        self.generation = generation

    def __str__(self) -> str:
        return f"generation {self.given} is over: the run is in generation {self.generation}"


def refuse_older(beat: Beat, generation: int) -> None:
    """Raises :class:`Fenced` when ``beat`` is of an older generation than the run's."""
    if beat.generation < generation:
        raise Fenced(beat.generation, generation)


class ControlSurface(Protocol):
    """What the control plane asks of a controller. Called from several threads at once.

    No method may wait for training: each answers from what is known, or takes a note.
    """

    @property
    def events(self) -> EventFeed:
        """The run's events."""

    def status(self) -> RunStatus:
        """This moment."""

    def request_drain(self) -> bool:
        """Notes that the run shall finish its step, write a checkpoint and stop.

        Returns True the first time; asking again changes nothing and returns False.
        """

    def request_leave(self, worker: int) -> bool:
        """Notes that ``worker`` shall leave and the run go on without it; True the first time.

        Raises ``ValueError`` if there is no such worker.
        """

    def inject(self, worker: int, fault: str) -> None:
        """Does ``fault`` to ``worker``, on purpose.

        Raises:
            PermissionError: the job does not allow drills.
            ValueError: there is no such worker, or the text is no fault.
        """

    def beat(self, beat: Beat) -> BeatReply:
        """Takes a beat. Raises :class:`Fenced` for an older generation, changing nothing."""

    def attend(self, who: Attend) -> Post:
        """The post of a worker that opened its stream of orders, with what is due in it.

        Raises :class:`Fenced` if it is no longer part of the run.
        """
