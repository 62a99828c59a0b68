"""The process of a controller: an office in a thread, and what the driver asks of it.

The class knows nothing of Ray; :mod:`ithaca.runtime.driver` makes an actor of it, which Ray starts
again, with the same arguments, when the process is lost.
"""

from __future__ import annotations

import os
import threading
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
        wanted: workers that it wants in addition to those it began with.
        said: warnings that the log could not take, from the one on that was asked for.
        end: the last event, once the run has ended.
        refused: why the user's job cannot be carried out; empty if it can.
        broken: the traceback of a mistake of ours that ended the controller; empty if none did.
    """

    pid: int
    wanted: int
    said: tuple[str, ...]
    end: RunEnded | None
    refused: str = ""
    broken: str = ""


class ControllerProcess:
    """A controller in a process of its own; methods are called by the driver."""

    def __init__(
        self,
        mission: Mission,
        facts: Mapping[int, Facts],
        join_s: float,
        *actors: Any,  # noqa: ANN401 - Ray's handles
    ) -> None:
        # Handles come one by one: together they would be too large to travel with the call, and a
        # restart must not depend on an object store.
        crew = Crew(dict(zip(facts, actors, strict=True)), facts, join_s)
        self._office = Office(mission, crew)
        self._end: RunEnded | None = None
        self._refused = ""
        self._broken = ""
        threading.Thread(target=self._work, name="controller", daemon=True).start()

    def pulse(self, said_before: int) -> Pulse:
        """How it is."""
        return Pulse(
            os.getpid(),
            self._office.wanted,
            tuple(self._office.said[said_before:]),
            self._end,
            self._refused,
            self._broken,
        )

    def request_drain(self) -> None:
        """Stop behind the step that runs."""
        self._office.request_drain()

    def joined(self, worker: int, actor: Any, facts: Facts | None, reason: str) -> None:  # noqa: ANN401
        """A worker that was wanted came up, or why it did not."""
        self._office.put(Joined(worker, actor, facts, reason))

    def head_lost(self, reason: str) -> None:
        """The cluster's head is gone."""
        self._office.put(HeadLost(reason))

    def _work(self) -> None:
        try:
            self._end = self._office.work()
        except UserError as error:
            self._refused = str(error)
        except BaseException:
            import traceback

            self._broken = traceback.format_exc()
