"""The process of controllers: an office in a thread, and what the driver asks of it.

The class knows nothing of Ray; :mod:`ithaca.runtime.seat` makes an actor of it, which Ray starts
again when the process is lost. It works on one run, and on the next when that one has ended.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ithaca.runtime.crew import Crew
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import RunEnded
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost, Joined
from ithaca.runtime.office import Office
from ithaca.runtime.orders import Facts


@dataclass(frozen=True, slots=True)
class Pulse:
    """A controller's answer to its driver.

    Attributes:
        pid: its process.
        daemon: Ray's daemon on its node, which is the driver's.
        wanted: workers that it wants in addition to those it began with.
        said: warnings that the log could not take, from the one on that was asked for.
        end: the last event, once the run has ended.
        refused: why the user's job cannot be carried out; empty if it can.
        broken: the traceback of a mistake of ours that ended the controller; empty if none did.
    """

    pid: int
    daemon: int
    wanted: int
    said: tuple[str, ...]
    end: RunEnded | None
    refused: str = ""
    broken: str = ""


class Duty:
    """A controller's work on one run, in a thread.

    Args:
        mission: what is carried out.
        crew: with whom.
    """

    def __init__(self, mission: Mission, crew: Crew) -> None:
        self.run = mission.run
        self.office = Office(mission, crew)
        self.introduced: set[int] = set()
        self.end: RunEnded | None = None
        self.refused = ""
        self.broken = ""

    def start(self) -> None:
        """Work until the run has ended."""
        threading.Thread(target=self._work, name="controller", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return self.end is not None or bool(self.refused or self.broken)

    def pulse(self, said_before: int) -> Pulse:
        """How it is."""
        return Pulse(
            os.getpid(),
            os.getppid(),
            self.office.wanted,
            tuple(self.office.said[said_before:]),
            self.end,
            self.refused,
            self.broken,
        )

    def _work(self) -> None:
        try:
            self.end = self.office.work()
        except UserError as error:
            self.refused = str(error)
        except BaseException:
            self.broken = traceback.format_exc()


class ControllerProcess:
    """Controllers in a process of their own, one after another; methods are called by a driver.

    It is made from nothing, so that a restart depends on nothing that lives elsewhere; the driver
    gives it the mission and introduces the crew with :meth:`begin`. Calls run in threads, in any
    order: each names its run, and waits for the driver's word to begin that one.

    Args:
        patience_s: bound of that wait.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._begun = threading.Condition()
        self._duty: Duty | None = None

    def begin(
        self,
        mission: Mission,
        facts: Mapping[int, Facts],
        join_s: float,
        *actors: Any,  # noqa: ANN401 - Ray's handles
    ) -> None:
        """Work with the crew whose handles are ``actors``, in the order of ``facts``; once a run.

        Raises:
            RuntimeError: another run has not ended.
        """
        with self._begun:
            before = self._duty
            if before is not None and before.run == mission.run:
                return
            if before is not None and not before.over:
                raise RuntimeError(f"run {before.run} has not ended, {mission.run} cannot begin")
            crew = Crew(dict(zip(facts, actors, strict=True)), facts, join_s)
            self._duty = Duty(mission, crew)
            self._duty.start()
            self._begun.notify_all()

    def pulse(self, run: str, said_before: int) -> Pulse:
        """How it is with a run; where that has not begun, only that the process lives."""
        duty = self._duty
        if duty is None or duty.run != run:
            return Pulse(os.getpid(), os.getppid(), 0, (), None)
        return duty.pulse(said_before)

    def request_drain(self, run: str) -> None:
        """Stop behind the step that runs."""
        self._working(run).office.request_drain()

    def joined(
        self,
        run: str,
        worker: int,
        actor: Any,  # noqa: ANN401 - Ray's handle
        facts: Facts | None,
        reason: str,
    ) -> None:
        """A worker that was wanted came up, or why it did not; told again, nothing happens."""
        duty = self._working(run)
        with self._begun:
            known = worker in duty.introduced
            duty.introduced.add(worker)
        if not known:
            duty.office.put(Joined(worker, actor, facts, reason))

    def head_lost(self, run: str, reason: str) -> None:
        """The cluster's head is gone."""
        self._working(run).office.put(HeadLost(reason))

    def _working(self, run: str) -> Duty:
        """What :meth:`begin` made: that call may be under way in another thread.

        Raises:
            TimeoutError: the driver asked for something and has not begun.
        """

        def begun() -> bool:
            return self._duty is not None and self._duty.run == run

        with self._begun:
            if not self._begun.wait_for(begun, self._patience_s) or self._duty is None:
                raise TimeoutError(f"nobody began this controller within {self._patience_s:g} s")
            return self._duty
