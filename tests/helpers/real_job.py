"""Runs a small job on real processes: a crew of warm workers, gloo between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ithaca.runtime.config.load import LoadedJob, load
from ithaca.runtime.crew import Crew
from ithaca.runtime.events import (
    CheckpointWritten,
    Event,
    RunEnded,
    StateHashed,
    StepDone,
    Validated,
)
from ithaca.runtime.office import Office
from ithaca.runtime.preview import preview
from ithaca.runtime.run import Start, find_checkpoint, mission_of, owning

BASE: Mapping[str, Any] = {
    "name": "small",
    "steps": 4,
    "seed": 5,
    "workload": {"use": "tests.helpers.small_models:Small"},
    "layout": {"pipelines": 1, "stages": 1, "micro_batches": 8},
    "optimizer": {"lr": 1e-2, "clip": 0.5, "warmup": 2},
    "checkpoint": {"every": 2},
    "validation": {"every": 2, "batches": 3},
    "report": {"hash_every": 1, "timeline_every": 1},
    # Test machines are small and busy: a worker may be silent for long without being lost.
    "detect": "20s",
}


def write_job(folder: Path, **changes: Any) -> Path:  # noqa: ANN401 - YAML values
    """A job file in ``folder``: :data:`BASE` with ``section={...}`` merged in."""
    job: dict[str, Any] = dict(BASE)
    for key, value in changes.items():
        old = job.get(key)
        job[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


@dataclass(frozen=True)
class Trace:
    """What a run left behind, step by step; equal means equal bits."""

    states: tuple[tuple[int, str], ...]
    losses: tuple[tuple[int, float, float, float], ...]
    validations: tuple[tuple[int, float], ...]

    def after(self, step: int) -> Trace:
        """The part behind ``step`` committed steps."""
        return Trace(
            tuple(row for row in self.states if row[0] > step),
            tuple(row for row in self.losses if row[0] > step),
            tuple(row for row in self.validations if row[0] > step),
        )


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    folder: Path
    end: RunEnded
    events: tuple[Event, ...]

    @property
    def trace(self) -> Trace:
        """The run as bits."""
        steps = [event for event in self.events if isinstance(event, StepDone)]
        held = [event for event in self.events if isinstance(event, Validated)]
        hashed = [event for event in self.events if isinstance(event, StateHashed)]
        return Trace(
            tuple((event.step, event.state_hash) for event in hashed),
            tuple((event.step, event.loss, event.auxiliary, event.norm) for event in steps),
            tuple((event.step, event.loss) for event in held),
        )

    @property
    def checkpoints(self) -> list[CheckpointWritten]:
        """Those that were written, in order."""
        return [event for event in self.events if isinstance(event, CheckpointWritten)]


def run_loaded(
    loaded: LoadedJob,
    crew: Crew,
    folder: Path,
    resume: bool = False,
    on_event: Callable[[Event, Office], None] = lambda *_: None,
) -> Ran:
    """Run ``loaded`` on ``crew``, its controller in this process; ``on_event`` sees every event."""
    seen_before = preview(loaded)
    seen: list[Event] = []
    offices: list[Office] = []

    def listen(event: Event) -> None:
        seen.append(event)
        on_event(event, offices[0])

    with owning(folder):
        start = Start(loaded, seen_before, folder, *find_checkpoint(folder, resume))
        wanted = len(seen_before.plan.workers) + loaded.job.recovery.spares
        part = crew.part(sorted(crew.facts)[:wanted])
        offices.append(Office(mission_of(start, part), part, [listen]))
        end = offices[0].work()
    return Ran(folder, end, tuple(seen))


def run_job(
    crew: Crew,
    folder: Path,
    resume: bool = False,
    **changes: Any,  # noqa: ANN401 - YAML values
) -> Ran:
    """Run :data:`BASE` with ``changes`` on ``crew`` in ``folder``."""
    loaded = load(write_job(folder.parent / "jobs", **changes))
    return run_loaded(loaded, crew, folder, resume)
