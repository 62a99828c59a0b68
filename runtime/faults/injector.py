"""Carries faults out in the process that they are meant for, at the points they name.

The engine calls :meth:`Injector.at` at every named point; nothing armed costs a look at a list. A
fault is reported, and the report has arrived, before it strikes: a process that is gone tells
nothing. Each fault strikes once in a process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ithaca.recovery.fault import CONTROLLER, Fault, FaultError, FaultKind, Moment, Point
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.faults import process
from ithaca.runtime.faults.disk import FaultyDisk
from ithaca.runtime.faults.flip import flip
from ithaca.runtime.faults.link import Link
from ithaca.runtime.faults.partition import Partition

if TYPE_CHECKING:
    from torch import Tensor


class InjectedError(RuntimeError):
    """What the fault ``raise`` raises."""


def _nothing() -> Sequence[Tensor]:
    return ()


def _nobody(_: int) -> int:
    raise FaultError("no other worker is known in this process")


def _no_notice(_: float) -> None:
    raise FaultError("nobody takes a notice in this process")


@dataclass(frozen=True, slots=True)
class Reach:
    """What the injector can lay hands on in its process.

    Attributes:
        parameters: the parameters at rest.
        gradients: gradients that were summed so far in this step.
        notice: tells the run that this node will be taken away in so many seconds.
        process: the process of another worker on this machine; ``FaultError`` if there is none.
    """

    parameters: Callable[[], Sequence[Tensor]] = _nothing
    gradients: Callable[[], Sequence[Tensor]] = _nothing
    notice: Callable[[float], None] = _no_notice
    process: Callable[[int], int] = _nobody


class Injector:
    """The faults of one process.

    Args:
        who: the worker's number, or :data:`~ithaca.recovery.fault.CONTROLLER`.
        report: takes the event of a fault that is about to strike, and returns when it has
            reached the log or cannot (within a bound).
        reach: what can be damaged.
    """

    def __init__(
        self, who: int | str, report: Callable[[FaultInjected], None], reach: Reach | None = None
    ) -> None:
        self.who = who
        self.disk = FaultyDisk()
        """For all files of this process that a disk fault shall meet."""
        self._report = report
        self._reach = reach or Reach()
        self._lock = threading.Lock()
        self._armed: list[Fault] = []
        self._seen: dict[Fault, int] = {}
        self._done: set[Fault] = set()
        self._wire: list[Random] = []
        self._results: list[Random] = []
        self._partition: Partition | None = None
        self._links: list[Link] = []

    def arm(self, faults: Iterable[Fault]) -> None:
        """Take those of ``faults`` that are meant for this process; each counts once."""
        with self._lock:
            for fault in faults:
                if fault.target == self.who and fault not in self._done:
                    self._done.add(fault)
                    # One list is replaced by another: `at` reads it without the lock.
                    self._armed = [*self._armed, fault]

    def order(self, text: str) -> None:
        """Take the fault that a control message carries, also one that has struck before.

        Raises:
            FaultError: it cannot be read.
        """
        fault = Fault.parse(text)
        with self._lock:
            if fault not in self._armed:
                self._done.discard(fault)
                self._seen.pop(fault, None)
        self.arm([fault])

    def at(self, committed: int, moment: str, what: object) -> None:
        """Say that the process is at a point, in the step behind ``committed`` steps.

        Args:
            committed: steps that this process has committed.
            moment: ``before`` or ``after``.
            what: an action, or a named point as text.

        Raises:
            InjectedError: if that is the fault.
            FaultError: the fault cannot be carried out here.
        """
        if not self._armed:
            return
        point = Point(committed + 1, Moment(moment), str(what))
        for fault in self._due(point):
            self._strike(fault, point)

    def sent(self, content: Tensor) -> Tensor:
        """What really goes over the wire for ``content``: itself, or a copy with a bit turned."""
        if not self._wire:
            return content
        with self._lock:
            chance = self._wire.pop() if self._wire else None
        if chance is None:
            return content
        copy = content.clone()
        flip([copy], chance)
        return copy

    def route(self, address: str) -> str:
        """Where a new connection to ``address`` really goes: there, or nowhere in a partition."""
        partition = self._partition
        return address if partition is None or partition.over else partition.nowhere

    def met(self, workers: Iterable[int]) -> None:
        """Say that this worker met these: it did not, if a link to one of them is cut.

        Making connections takes less time than finding them to cut them, so they are made, and the
        meeting fails here instead, as it would if they could not have been.

        Raises:
            InjectedError: a link is cut.
        """
        apart = {link.other for link in self._links if not link.over} & set(workers)
        if apart:
            names = ", ".join(f"worker {other}" for other in sorted(apart))
            raise InjectedError(f"no connection to {names}: a drill has cut it")

    def computed(self, gradients: Sequence[Tensor]) -> None:
        """Damage what was just computed, if that is the fault."""
        if self._results and any(gradient.numel() for gradient in gradients):
            flip(gradients, self._results.pop())

    def _due(self, point: Point) -> list[Fault]:
        due = []
        with self._lock:
            for fault in self._armed:
                if fault.matches(point):
                    self._seen[fault] = self._seen.get(fault, 0) + 1
                    if self._seen[fault] >= fault.nth:
                        due.append(fault)
            self._armed = [fault for fault in self._armed if fault not in due]
        return due

    def _strike(self, fault: Fault, point: Point) -> None:
        self._report(
            FaultInjected(
                time_s=time.time(),
                fault=str(fault),
                worker=None if self.who == CONTROLLER else int(self.who),
                step=point.step,
                action=point.what,
            )
        )
        chance = Random(str(fault))
        match fault.kind:
            case FaultKind.CRASH:
                process.crash()
            case FaultKind.STOP:
                process.stop(os.getpid(), fault.for_s)
            case FaultKind.LOOP:
                process.loop(fault.for_s)
            case FaultKind.GIL:
                process.keep_lock(fault.for_s)
            case FaultKind.RAISE:
                raise InjectedError(f"a drill asked for it: {fault}")
            case FaultKind.SLOW:
                process.slow(os.getpid(), fault.for_s or 0.0, fault.factor)
            case FaultKind.PARTITION if fault.other is not None:
                link = Link(self._reach.process(fault.other), fault.other)
                link.start(fault.for_s)
                self._links.append(link)
            case FaultKind.PARTITION:
                self._partition = Partition()
                self._partition.start(fault.for_s)
            case FaultKind.FLIP_PARAMETER:
                flip(self._reach.parameters(), chance)
            case FaultKind.FLIP_GRADIENT:
                flip(self._reach.gradients(), chance)
            case FaultKind.FLIP_RESULT:
                with self._lock:
                    self._results += [Random(f"{fault} {turn}") for turn in range(fault.times)]
            case FaultKind.FLIP_WIRE:
                with self._lock:
                    self._wire.append(chance)
            case FaultKind.DISK_FULL | FaultKind.DISK_ERROR | FaultKind.DISK_SLOW:
                self.disk.spoil(fault)
            case FaultKind.KILL_RAYLET | FaultKind.STOP_RAYLET | FaultKind.KILL_HEAD:
                _daemon(fault)
            case FaultKind.NOTICE:
                process.kill_later(os.getpid(), fault.for_s or 0.0)
                self._reach.notice(fault.for_s or 0.0)


def _daemon(fault: Fault) -> None:
    raylet = process.raylet_of(os.getpid())
    if raylet is None:
        raise FaultError(f"'{fault}': this process was not started by Ray")
    if fault.kind is FaultKind.STOP_RAYLET:
        process.stop(raylet, fault.for_s)
        return
    victim = raylet if fault.kind is FaultKind.KILL_RAYLET else process.control_store_of(raylet)
    if victim is None:
        raise FaultError(f"'{fault}': the control store of Ray is not on this node")
    os.kill(victim, signal.SIGKILL)
