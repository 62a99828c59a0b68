"""The office of a controller: the journal, the log and the control plane that it works with.

One office works on a run at a time; the journal's lock sees to that. It may be in a process of its
own, where it is replaced when it is lost, or in the driver's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.control.plane import ControlPlane
from ithaca.runtime.control.trouble import ControlError
from ithaca.runtime.controller import Controller
from ithaca.runtime.crew import Crew
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded
from ithaca.runtime.folder import LOG
from ithaca.runtime.journal import Journal
from ithaca.runtime.log import EventLog
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import Note
from ithaca.runtime.timeouts import Timeouts


class Office:
    """A controller with all it owns.

    Args:
        mission: what is carried out.
        crew: warm workers.
        listeners: told every event, besides the log.
    """

    def __init__(
        self, mission: Mission, crew: Crew, listeners: Sequence[Callable[[Event], None]] = ()
    ) -> None:
        self._mission = mission
        self._crew = crew
        self._listeners = tuple(listeners)
        self._ready = threading.Condition()
        self._controller: Controller | None = None
        self._notes: list[Note] = []
        self._drain = False
        self.said: list[str] = []
        """Warnings that the log itself could not take."""

    @property
    def wanted(self) -> int:
        """Workers that the controller wants in addition to those it began with."""
        controller = self._controller
        return controller.wanted if controller else 0

    def work(self) -> RunEnded:
        """Carry the mission out, or go on where another office was lost.

        Raises:
            UserError: as :meth:`Controller.run`; or another run holds the folder.
        """
        mission = self._mission
        wait_s = Timeouts.from_detect(mission.job.detect).join_s
        with Journal(mission.folder, mission.run, warn=self.said.append, wait_s=wait_s) as journal:
            journal.open()
            with EventLog(mission.folder / LOG, warn=self.said.append) as log:

                def emit(event: Event) -> None:
                    log(event)
                    for listener in self._listeners:
                        listener(event)

                controller = Controller(mission, self._crew, emit, journal)
                controller.prepare()
                with self._ready:
                    self._controller = controller
                    for note in self._notes:
                        controller.put(note)
                    if self._drain:
                        controller.front.request_drain()
                with self._plane(controller) as plane:
                    return controller.run(plane)

    def put(self, note: Note) -> None:
        """Let the controller know of something, as soon as there is one."""
        with self._ready:
            self._notes.append(note)
            if self._controller is not None:
                self._controller.put(note)

    def request_drain(self) -> None:
        """Stop behind the step that runs."""
        with self._ready:
            self._drain = True
            if self._controller is not None:
                self._controller.front.request_drain()

    def _plane(self, controller: Controller) -> ControlPlane:
        """The control plane where an earlier one of this run was, so that workers find it."""
        mission, control = self._mission, self._mission.job.control
        before = self._before()
        ports = [control.port] if before is None else [before.port, control.port]
        for last, port in zip([False] * (len(ports) - 1) + [True], ports, strict=True):
            try:
                return ControlPlane.open(
                    controller.front,
                    mission.folder,
                    pid=mission.pid,
                    started=mission.started,
                    bind=control.bind,
                    port=port,
                    expose=control.expose,
                    token=None if before is None else before.token,
                )
            except UserError:
                if last:
                    raise
        raise AssertionError("there is a port to try")

    def _before(self) -> Credentials | None:
        try:
            found = Credentials.read(self._mission.folder)
        except ControlError:
            return None
        mine = (self._mission.pid, self._mission.started)
        return found if (found.pid, found.started) == mine else None
