"""Warm workers for many short jobs, each carried out as ``ithaca run`` does, by its own driver.

Starting Ray and importing torch take longer than such a job; here they are done once, and again
only for a worker that was lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import load
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.driver import Driver
from ithaca.runtime.events import Event
from ithaca.runtime.folder import LOG
from ithaca.runtime.log import read
from ithaca.runtime.measured import FILE
from ithaca.runtime.orders import Facts
from ithaca.runtime.preview import preview
from ithaca.runtime.run import Start, mission_of, owning

_RELEASE_S = 30.0


@dataclass
class Warm:
    """Workers that wait for a job.

    Attributes:
        cluster: where they are.
        agency: hires them.
        idle: those that no job uses.
    """

    cluster: Cluster
    agency: Agency
    idle: list[tuple[Any, Facts]] = field(default_factory=list)

    def run(self, job: Mapping[str, Any], folder: Path, profile: Path | None = None) -> list[Event]:
        """Carry out a job that replaces no lost worker; the events of its log.

        Args:
            job: as in a YAML file, without its folder.
            folder: of the run; must not be there yet.
            profile: a run folder whose measured layer times the job begins with; None for none.
        """
        folder.mkdir(parents=True)
        if profile is not None:
            shutil.copy(profile / FILE, folder / FILE)
        path = folder / "job.yaml"
        path.write_text(yaml.safe_dump({**job, "folder": str(folder)}))
        loaded = load(path)
        seen = preview(loaded)
        with owning(folder) as left:
            crew = self._take(len(seen.plan.workers) + loaded.job.recovery.spares)
            try:
                mission = mission_of(Start(loaded, seen, folder, None, left), crew)
                Driver(mission, self.cluster, self.agency, crew, ()).run()
            finally:
                self._give_back(crew)
        return read(folder / LOG)

    def _take(self, size: int) -> Crew:
        missing = size - len(self.idle)
        if missing > 0:
            hired = self.agency.hire(missing)
            self.idle += [(hired.actors[worker], hired.facts[worker]) for worker in hired.facts]
        chosen, self.idle = self.idle[:size], self.idle[size:]
        actors = {number: actor for number, (actor, _) in enumerate(chosen)}
        facts = {number: told for number, (_, told) in enumerate(chosen)}
        return Crew(actors, facts, 60.0)

    def _give_back(self, crew: Crew) -> None:
        """Keep those that still answer; the others are ended."""
        answers = crew.ask("release", dict.fromkeys(crew.actors, ()), _RELEASE_S)
        for worker, answer in answers.items():
            if isinstance(answer, Silence):
                crew.kill(worker)
            else:
                self.idle.append((crew.actors[worker], crew.facts[worker]))
        crew.hang_up(_RELEASE_S)


@contextmanager
def warm(most_workers: int) -> Iterator[Warm]:
    """A cluster of one's own with room for jobs of ``most_workers``."""
    # A worker that was lost keeps its slot until Ray has noticed.
    with Cluster.start(4 * most_workers, paths=[Path.cwd()]) as cluster, Agency(cluster) as agency:
        yield Warm(cluster, agency)
