"""The driver: the process that owns the cluster, the workers and the controller's process.

Everything that it started ends with it. It follows the run's log for whoever listens, hires the
workers that the controller wants, and replaces a controller that is lost or hangs; workers train on
meanwhile. When the cluster can start no controller any more, the last one works in this process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ithaca.runtime.agency import Agency, Hired
from ithaca.runtime.answers import finished, result
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.controller_process import Pulse
from ithaca.runtime.crew import Crew
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded, Warned
from ithaca.runtime.folder import LOG
from ithaca.runtime.follow import Follower
from ithaca.runtime.head import HeadWatch
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost
from ithaca.runtime.office import Office
from ithaca.runtime.seat import Seat
from ithaca.runtime.timeouts import Timeouts

Emit = Callable[[Event], None]

_LOOK_S = 0.05
"""Longest time until an event is shown."""


class Driver:
    """Drives one run from its own thread.

    Args:
        mission: what is carried out.
        cluster: where.
        agency: hires workers there.
        crew: those hired so far.
        listeners: told every event, in this thread.
        seat: where the controller works; it is kept for the next run. Default: one of its own.
    """

    def __init__(
        self,
        mission: Mission,
        cluster: Cluster,
        agency: Agency,
        crew: Crew,
        listeners: Sequence[Emit],
        seat: Seat | None = None,
    ) -> None:
        self._mission = mission
        self._cluster = cluster
        self._agency = agency
        self._crew = crew
        self._everybody = crew.part(crew.facts)
        self._listeners = tuple(listeners)
        self._timeouts = Timeouts.from_detect(mission.job.detect)
        self._seat = seat or Seat(mission.job.detect)
        self._keeps_seat = seat is not None
        self._actor: Any = None
        self._asked: tuple[Any, float] | None = None
        self._pid: int | None = None
        self._late_s = 0.0
        self._looked = time.monotonic()
        self._said = 0
        self._begun: list[int] = []
        self._hired: list[Hired] = []
        self._drain = self._drain_told = False
        self._head = HeadWatch(cluster.address, mission.job.detect, cluster.probe)
        self._head_told = False
        self._silent_s = time.monotonic()

    def request_drain(self) -> None:
        """Let the run stop behind its step; may be called from a signal handler."""
        self._drain = True

    def run(self) -> RunEnded:
        """Drive the run to its end; the last event.

        Raises:
            UserError: the job cannot be carried out.
            RuntimeError: a mistake of ours ended the controller.
        """
        follower = Follower(self._mission.folder / LOG)
        self._head.start()
        kept = False
        try:
            self._actor = self._seat.take()
            while True:
                pulse = self._pulse()
                self._tell(follower)
                if pulse is None and self._alone():
                    end = self._last_controller()
                    self._tell(follower)
                    return end
                if pulse is not None and self._take(pulse):
                    # What was written between the last look and the end.
                    self._tell(follower)
                    assert pulse.end is not None
                    kept = self._keeps_seat
                    return pulse.end
                self._hire()
                self._pass_on()
        finally:
            follower.close()
            self._head.stop()
            if not kept:
                self._seat.close()  # its run may not have ended
            # They know this run alone, and the next one may need their slots.
            self._agency.end(self._begun)

    # -- the controller's process

    def _pulse(self) -> Pulse | None:
        """The controller's answer if there is one; one that hangs is killed, for Ray to replace."""
        now = time.monotonic()
        # What was late here is not the controller's fault.
        self._late_s += min(now - self._looked, 4 * _LOOK_S)
        self._looked = now
        if self._asked is None:
            self._asked = (self._actor.pulse.remote(self._mission.run, self._said), now)
            self._late_s = 0.0
        future, _ = self._asked
        if not finished([future], _LOOK_S):
            if self._pid is not None and self._late_s > self._timeouts.suspect_s:
                self._kill()
            return None
        self._asked = None
        answer = result(future)
        if isinstance(answer, Pulse):
            self._silent_s = now
            return answer
        self._pid = None
        return None

    def _alone(self) -> bool:
        """Whether the controller is lost and the cluster can start no other one."""
        return bool(self._head.reason) and (
            self._pid is None or time.monotonic() - self._silent_s > self._timeouts.grace_s
        )

    def _last_controller(self) -> RunEnded:
        """Work as the controller here, to save what can be saved; nobody is hired any more."""
        if self._pid is not None:
            self._kill()
        office = Office(self._mission, self._everybody)
        office.put(HeadLost(self._head.reason))
        return office.work()

    def _kill(self) -> None:
        assert self._pid is not None
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._pid, self._asked = None, None

    def _take(self, pulse: Pulse) -> bool:
        """True at the end of the run."""
        if pulse.pid != self._pid:
            self._pid, self._said = pulse.pid, 0
            self._drain_told = self._head_told = False
            self._head.daemon_is(pulse.daemon)
            actors = [self._crew.actors[worker] for worker in self._crew.facts]
            self._actor.begin.remote(self._mission, self._crew.facts, self._crew.join_s, *actors)
            for each in self._hired:
                self._introduce(each)
        for message in pulse.said:
            self._emit(Warned(time_s=time.time(), message=message))
        self._said += len(pulse.said)
        if pulse.refused:
            raise UserError(pulse.refused)
        if pulse.broken:
            raise RuntimeError(f"the controller broke:\n{pulse.broken}")
        while len(self._begun) < pulse.wanted:
            self._begun.append(self._agency.begin())
        return pulse.end is not None

    # -- what passes between them

    def _tell(self, follower: Follower) -> None:
        for event in follower.read():
            self._emit(event)

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _hire(self) -> None:
        for each in self._agency.arrived():
            self._hired.append(each)
            self._introduce(each)
            if each.facts is not None:
                self._everybody.add(each.worker, each.actor, each.facts)

    def _introduce(self, hired: Hired) -> None:
        self._actor.joined.remote(
            self._mission.run, hired.worker, hired.actor, hired.facts, hired.reason
        )

    def _pass_on(self) -> None:
        if self._drain and not self._drain_told and self._pid is not None:
            self._drain_told = True
            self._actor.request_drain.remote(self._mission.run)
        if self._head.reason and not self._head_told and self._pid is not None:
            self._head_told = True
            self._actor.head_lost.remote(self._mission.run, self._head.reason)
