"""The process of a controller: an office in a thread, and what the driver asks of it.

The class knows nothing of Ray; :mod:`ithaca.runtime.driver` makes an actor of it, which Ray starts
again, with the same arguments, when the process is lost.
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
from ithaca.runtime.timeouts import Timeouts


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


class ControllerProcess:
    """A controller in a process of its own; methods are called by the driver.

    It is made from the mission alone, so that a restart depends on nothing that lives elsewhere;
    the driver introduces the crew with :meth:`begin`.
    """

    def __init__(self, mission: Mission) -> None:
        self._mission = mission
        self._office: Office | None = None
        self._end: RunEnded | None = None
        self._refused = ""
        self._broken = ""
        self._began = threading.Event()
        self._introduced: set[int] = set()

    def begin(
        self,
        facts: Mapping[int, Facts],
        join_s: float,
        *actors: Any,  # noqa: ANN401 - Ray's handles
    ) -> None:
        """Work with the crew whose handles are ``actors``, in the order of ``facts``; once."""
        if self._office is None:
            crew = Crew(dict(zip(facts, actors, strict=True)), facts, join_s)
            self._office = Office(self._mission, crew)
            self._began.set()
            threading.Thread(target=self._work, name="controller", daemon=True).start()

    def pulse(self, said_before: int) -> Pulse:
        """How it is."""
        return Pulse(
            os.getpid(),
            os.getppid(),
            self._office.wanted if self._office else 0,
            tuple(self._office.said[said_before:]) if self._office else (),
            self._end,
            self._refused,
            self._broken,
        )

    def request_drain(self) -> None:
        """Stop behind the step that runs."""
        self._working().request_drain()

    def joined(
        self,
        worker: int,
        actor: Any,  # noqa: ANN401 - Ray's handle
        facts: Facts | None,
        reason: str,
    ) -> None:
        """A worker that was wanted came up, or why it did not; told again, nothing happens."""
        office = self._working()
        if worker not in self._introduced:
            self._introduced.add(worker)
            office.put(Joined(worker, actor, facts, reason))

    def head_lost(self, reason: str) -> None:
        """The cluster's head is gone."""
        self._working().put(HeadLost(reason))

    def _working(self) -> Office:
        """What :meth:`begin` made: that call may be under way in another thread.

        Raises:
            TimeoutError: the driver asked for something and has not begun.
        """
        bound_s = Timeouts.from_detect(self._mission.job.detect).join_s
        if not self._began.wait(bound_s) or self._office is None:
            raise TimeoutError(f"nobody began this controller within {bound_s:g} s")
        return self._office

    def _work(self) -> None:
        try:
            self._end = self._working().work()
        except UserError as error:
            self._refused = str(error)
        except BaseException:
            self._broken = traceback.format_exc()
