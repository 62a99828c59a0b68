"""What a log tells, put in order: attempts, plans, steps, timelines, and how it ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ithaca.runtime.events import (
    CheckpointWritten,
    ControllerRestarted,
    Decided,
    Event,
    FailureNoticed,
    FaultInjected,
    MemoryUsed,
    PlanChosen,
    Recovered,
    RunEnded,
    RunStarted,
    Showcase,
    StateHashed,
    StepDone,
    Timeline,
    Validated,
    Warned,
    WorkerFailed,
    WorkerJoined,
    WorkerLeft,
)

Incident = FaultInjected | FailureNoticed | Decided | Recovered | WorkerLeft | ControllerRestarted
"""An event of a failure, or of the answer to it."""
Notice = RunStarted | PlanChosen | CheckpointWritten | Warned | WorkerFailed | RunEnded | Incident
"""An event that stands by itself in the report's list of events."""

_MEASURED = 64
"""So many steps behind a recovery tell how long they take now."""


@dataclass(slots=True)
class Story:
    """A run as the report tells it; steps that were done again after a resume appear once.

    Attributes:
        starts: one for each attempt.
        workers: of the newest attempt, by id.
        steps: by number of committed steps, ascending; the last record wins.
        timelines: by step, then by worker.
        current: steps that were done under the newest plan.
        hashes: of the whole state, by number of committed steps.
        incidents: failures, and the answers to them, with the first steps behind each.
        memory: what each worker under a budget last said of it.
        end: how the last attempt ended; None if it goes on, or ended without a record.
        repeated: steps that had been done before and were given up at a resume.
        worked_s: seconds from start to end (or the last record), summed over the attempts.
    """

    starts: list[RunStarted] = field(default_factory=list)
    plans: list[PlanChosen] = field(default_factory=list)
    workers: dict[int, WorkerJoined] = field(default_factory=dict)
    steps: dict[int, StepDone] = field(default_factory=dict)
    validations: dict[int, Validated] = field(default_factory=dict)
    timelines: dict[int, dict[int, Timeline]] = field(default_factory=lambda: defaultdict(dict))
    current: set[int] = field(default_factory=set)
    hashes: dict[int, str] = field(default_factory=dict)
    checkpoints: list[CheckpointWritten] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    failures: list[WorkerFailed] = field(default_factory=list)
    memory: dict[int, MemoryUsed] = field(default_factory=dict)
    incidents: list[Event] = field(default_factory=list)
    showcase: str | None = None
    end: RunEnded | None = None
    repeated: int = 0
    worked_s: float = 0.0

    @property
    def run(self) -> RunStarted | None:
        """The newest attempt's record; None for a log without one."""
        return self.starts[-1] if self.starts else None

    @property
    def scale(self) -> float:
        """The factor from the mean loss to the workload's metric."""
        return self.run.metric_scale if self.run else 1.0

    @property
    def committed(self) -> int:
        """Committed steps."""
        return max(self.steps, default=(self.run.resumed_from or 0) if self.run else 0)

    @property
    def plan(self) -> PlanChosen | None:
        """The newest plan."""
        return self.plans[-1] if self.plans else None

    @property
    def predicted(self) -> dict[int, list[tuple[str, float, float]]]:
        """The newest plan's expected timeline of each worker."""
        rows = self.plan.predicted if self.plan else {}
        return {int(worker): part for worker, part in rows.items() if worker.isdecimal()}

    @property
    def state_hash(self) -> str | None:
        """The newest hash of the whole state."""
        if self.end and self.end.state_hash:
            return self.end.state_hash
        return self.hashes[max(self.hashes)] if self.hashes else None

    def median_step_s(self) -> float | None:
        """The median time of the newest plan's steps, in seconds, the attempt's first one left out.

        The first step of an attempt pays for allocations and connections.
        """
        firsts = {(start.resumed_from or 0) + 1 for start in self.starts}
        steps = self.current & set(self.steps) - firsts
        return median(self.steps[step].seconds for step in steps) if steps else None

    def typical_step(self) -> int | None:
        """Of the newest plan's steps with timelines, the one of median length; None without any."""
        lengths = sorted(
            (max((end for line in lines.values() for _, _, end in line.rows), default=0.0), step)
            for step, lines in self.timelines.items()
            if step in self.current
        )
        return lengths[(len(lengths) - 1) // 2][1] if lengths else None


def tell(events: Iterable[Event]) -> Story:
    """The story of ``events``, which are in the order of the log."""
    story = Story()
    began_s: float | None = None
    for event in events:
        if isinstance(event, RunStarted) or began_s is None:
            began_s, before_s = event.time_s, story.worked_s
        if story.end is None or isinstance(event, RunStarted):
            story.worked_s = before_s + max(0.0, event.time_s - began_s)
        _take(story, event)
    story.steps = dict(sorted(story.steps.items()))
    story.validations = dict(sorted(story.validations.items()))
    return story


def _take(story: Story, event: Event) -> None:
    match event:
        case RunStarted():
            story.starts.append(event)
            story.end = story.showcase = None
            story.workers.clear()
            story.memory.clear()
            _give_up(story, event.resumed_from or 0)
        case PlanChosen():
            story.plans.append(event)
            story.current.clear()
        case WorkerJoined():
            story.workers[event.worker] = event
        case StepDone():
            story.steps[event.step] = event
            story.current.add(event.step)
            if any(isinstance(each, Recovered) for each in story.incidents[-_MEASURED:]):
                story.incidents.append(event)
        case Validated():
            story.validations[event.step] = event
        case Timeline():
            story.timelines[event.step][event.worker] = event
            story.current.add(event.step)
        case StateHashed():
            story.hashes[event.step] = event.state_hash
        case CheckpointWritten():
            story.checkpoints.append(event)
            story.hashes[event.step] = event.state_hash
        case MemoryUsed():
            story.memory[event.worker] = event
        case WorkerFailed():
            story.failures.append(event)
        case FaultInjected() | FailureNoticed() | Decided() | Recovered() | ControllerRestarted():
            story.incidents.append(event)
        case Showcase():
            story.showcase = event.text
        case RunEnded():
            story.end = event
    if isinstance(event, Notice):
        story.notices.append(event)


def _give_up(story: Story, kept: int) -> None:
    """Forget what came after ``kept`` committed steps: it is about to be done again."""
    again = [step for step in story.steps if step > kept]
    story.repeated += len(again)
    later: dict[int, Any]
    for later in (story.steps, story.validations, story.timelines, story.hashes):
        for step in [step for step in later if step > kept]:
            del later[step]
