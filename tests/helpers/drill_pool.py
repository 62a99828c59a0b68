"""Warm workers for many drills: one cluster, and a new process only for one that was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ithaca.recovery.drill import Result, Trace
from ithaca.runtime.agency import Agency
from ithaca.runtime.config.load import LoadedJob, load
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.drill.result import result_of, trace_of
from ithaca.runtime.events import Event
from ithaca.runtime.office import Office
from ithaca.runtime.orders import Facts
from ithaca.runtime.preview import preview
from ithaca.runtime.run import Start, mission_of, owning
from tests.helpers.real_job import write_job

_RELEASE_S = 30.0


@dataclass
class Pool:
    """Workers that wait for a drill.

    Attributes:
        agency: hires them.
        idle: those that nobody uses.
        lost: how many were lost so far.
    """

    agency: Agency
    idle: list[tuple[Any, Facts]] = field(default_factory=list)
    lost: int = 0

    def take(self, size: int) -> Crew:
        """A crew of ``size``, numbered from 0."""
        missing = size - len(self.idle)
        if missing > 0:
            hired = self.agency.hire(missing)
            self.idle += [(hired.actors[worker], hired.facts[worker]) for worker in hired.facts]
        chosen, self.idle = self.idle[:size], self.idle[size:]
        actors = {number: actor for number, (actor, _) in enumerate(chosen)}
        facts = {number: told for number, (_, told) in enumerate(chosen)}
        return Crew(actors, facts, 60.0)

    def give_back(self, crew: Crew) -> None:
        """Keep those that still answer; the others are ended."""
        answers = crew.ask("release", dict.fromkeys(crew.actors, ()), _RELEASE_S)
        for worker, answer in answers.items():
            if isinstance(answer, Silence):
                crew.kill(worker)
                self.lost += 1
            else:
                self.idle.append((crew.actors[worker], crew.facts[worker]))
        crew.hang_up(_RELEASE_S)

    def run(self, loaded: LoadedJob, folder: Path) -> list[Event]:
        """Run a job with the controller in this process; its events."""
        seen = preview(loaded)
        events: list[Event] = []
        folder.mkdir(parents=True, exist_ok=True)
        with owning(folder) as left:
            start = Start(loaded, seen, folder, None, left)
            crew = self.take(len(seen.plan.workers) + loaded.job.recovery.spares)
            try:
                Office(mission_of(start, crew), crew, [events.append]).work()
            finally:
                self.give_back(crew)
        return events

    def disturbed(
        self,
        folder: Path,
        faults: Sequence[str],
        **changes: Any,  # noqa: ANN401 - YAML values
    ) -> Result:
        """Run a small job with faults; what it left behind."""
        path = write_job(folder / "job", drills=True, faults=list(faults), **changes)
        return result_of(self.run(load(path), folder / "run"))

    def undisturbed(self, folder: Path, **changes: Any) -> Trace:  # noqa: ANN401
        """Run a small job; its bits."""
        return trace_of(self.run(load(write_job(folder / "job", **changes)), folder / "run"))
