"""The front of a controller: what its control plane offers, called from many threads at once.

It takes notes and answers from what is known; it never waits for training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from ithaca.recovery.fault import CONTROLLER, Fault
from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.inbox import Inbox
from ithaca.runtime.control.roll import Attend, Order, OrderKind, Post, Roll
from ithaca.runtime.control.surface import Beat, BeatReply, Command, RunStatus, WorkerStatus
from ithaca.runtime.detector import Detector
from ithaca.runtime.events import Event
from ithaca.runtime.faults.injector import Injector
from ithaca.runtime.keeper import Keeper
from ithaca.runtime.membership import Membership
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import Gone, Leave, Mailbox, Wake
from ithaca.runtime.orders import Facts
from ithaca.runtime.recorder import Recorder
from ithaca.runtime.states import Life


@dataclass(frozen=True, slots=True)
class Desk:
    """What the front and the controller's thread share.

    Attributes:
        mission: what is carried out.
        facts: what each worker said of itself; grows as workers come.
        members: who takes part.
        recorder: events and ledger.
        keeper: checkpoints.
        detector: evidence of failures.
        mailbox: notes for the controller's thread.
        life: the run's state.
        feed: the events, for those who watch.
    """

    mission: Mission
    facts: dict[int, Facts]
    members: Membership
    recorder: Recorder
    keeper: Keeper
    detector: Detector
    mailbox: Mailbox
    life: Life
    feed: EventFeed


class Front:
    """A :class:`~ithaca.runtime.control.surface.ControlSurface`.

    Args:
        desk: shared with the controller's thread.
        injector: of this process; takes the faults that are meant for the controller.
    """

    def __init__(self, desk: Desk, injector: Injector) -> None:
        self._desk = desk
        self._injector = injector
        self._inbox = Inbox()
        self._drain = threading.Event()
        self.roll = Roll(lambda who: desk.mailbox.put(Gone(who)))

    @property
    def events(self) -> EventFeed:
        """The run's events as JSON lines."""
        return self._desk.feed

    @property
    def draining(self) -> bool:
        """Whether the run was asked to stop behind its step."""
        return self._drain.is_set()

    def status(self) -> RunStatus:
        """This moment."""
        desk = self._desk
        last, job, plan = desk.recorder.last, desk.mission.job, desk.members.plan
        return RunStatus(
            name=job.name,
            state=desk.life.state.value,
            step=desk.recorder.ledger.committed,
            steps=job.steps,
            loss=last.loss if last else None,
            throughput=last.count / last.seconds if last and last.seconds else None,
            generation=desk.members.generation,
            plan=str(plan),
            workers=tuple(
                self._worker(worker)
                for worker in sorted(desk.members.known)
                if worker in desk.facts
            ),
            started=desk.mission.started,
            checkpoint_step=desk.keeper.step,
        )

    def request_drain(self) -> bool:
        """Stop behind the step that runs; True the first time."""
        first = not self._drain.is_set()
        self._drain.set()
        members = self._desk.members
        self.roll.push(Order(members.generation, OrderKind.DRAIN), members.known)
        self._desk.mailbox.put(Wake())
        return first

    def request_leave(self, worker: int) -> bool:
        """Let ``worker`` leave, and the run go on without it; True the first time."""
        self._check_known(worker)
        first = worker not in self._desk.members.leaving
        self._desk.mailbox.put(Leave(worker))
        return first

    def inject(self, worker: int, fault: str) -> None:
        """Pass a fault on to the worker that it is meant for, or take the controller's own."""
        if not self._desk.mission.job.drills:
            raise PermissionError(
                "this job does not allow faults on purpose; start it with drills=true"
            )
        if Fault.parse(fault).target == CONTROLLER:
            self._injector.order(fault)
            return
        self._check_known(worker)
        order = Order(self._desk.members.generation, OrderKind.INJECT, fault)
        if not self.roll.push(order, [worker]):
            raise ValueError(f"worker {worker} is not connected now; try again in a moment")

    def beat(self, beat: Beat) -> BeatReply:
        """Take a worker's beat and events."""
        desk = self._desk
        desk.members.admit(beat.worker, beat.generation)
        desk.detector.beat(beat)
        delivery = self._inbox.take(beat)
        desk.recorder.take(beat.worker, [record.line for record in delivery.records])
        if delivery.records:
            desk.mailbox.put(Wake())
        command = Command.DRAIN if self._drain.is_set() else Command.NONE
        return BeatReply(command, desk.members.generation, delivery.acknowledged)

    def attend(self, who: Attend) -> Post:
        """The post of a worker that opened its stream of orders."""
        desk = self._desk
        desk.members.admit(who.worker, who.generation)
        desk.detector.attends(who.worker)
        generation = desk.members.generation
        due = []
        if 0 <= who.generation < generation:
            due.append(Order(generation, OrderKind.FENCE))
        if self._drain.is_set():
            due.append(Order(generation, OrderKind.DRAIN))
        return self.roll.enter(who, due)

    def _check_known(self, worker: int) -> None:
        known = self._desk.members.known
        if worker not in known:
            there = ", ".join(map(str, sorted(known)))
            raise ValueError(f"there is no worker {worker}; there are {there}")

    def _worker(self, worker: int) -> WorkerStatus:
        desk = self._desk
        facts = desk.facts[worker]
        state = desk.life.state.value if worker in desk.members.plan.workers else "spare"
        status = WorkerStatus(worker, facts.node, facts.pid, state)
        heard = desk.detector.heard().get(worker)
        if heard is None:
            return status
        beat = heard.beat
        return replace(
            status,
            step=beat.step,
            action=beat.action,
            since_s=beat.since_s,
            age_s=desk.detector.age_s(worker),
        )


def fed(feed: EventFeed, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Takes an event to those who watch, and to ``emit``."""

    def take(event: Event) -> None:
        feed.append(event.to_json())
        emit(event)

    return take
