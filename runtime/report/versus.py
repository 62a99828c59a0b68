"""The plan against what was measured: the step, and every worker in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ithaca.planner.plan import Plan
from ithaca.runtime.events import Timeline
from ithaca.runtime.report.gantt import Share, aligned, held, shares
from ithaca.runtime.report.story import Story


@dataclass(frozen=True, slots=True)
class StepRow:
    """The time of a step in seconds: what the simulator said, and the median that was measured."""

    predicted_s: float | None
    measured_s: float | None

    @property
    def error(self) -> float | None:
        """By what part the step took longer than predicted; negative if it took less."""
        if not self.predicted_s or self.measured_s is None:
            return None
        return self.measured_s / self.predicted_s - 1


@dataclass(frozen=True, slots=True)
class CrewRow:
    """One worker: how it was to spend the step and how it did, and the peak of its memory."""

    worker: int
    node: str
    holds: str
    predicted: Share | None
    measured: Share | None
    predicted_bytes: int | None
    measured_bytes: int | None


def step_row(story: Story) -> StepRow | None:
    """The newest plan's step; None without a plan."""
    if story.plan is None:
        return None
    return StepRow(story.plan.predicted_step_s, story.median_step_s())


def crew_rows(story: Story, plan: Plan | None, measured: Mapping[int, Timeline]) -> list[CrewRow]:
    """A row for every worker of the newest plan or of the measured step, by id."""
    predicted = story.predicted
    expected = dict(story.plan.predicted_peak_bytes) if story.plan else {}
    seen = aligned(measured)
    lengths = [
        max((end for rows in part.values() for _, _, end in rows), default=0.0)
        for part in (predicted, seen)
    ]
    recorded = [story.timelines[step] for step in story.current & set(story.timelines)]
    rows = []
    for worker in sorted({*predicted, *seen, *(plan.workers if plan else ())}):
        peaks = [lines[worker].peak_bytes for lines in recorded if worker in lines]
        joined = story.workers.get(worker)
        rows.append(
            CrewRow(
                worker=worker,
                node=joined.node if joined else "",
                holds=held(plan, worker),
                predicted=shares(predicted[worker], lengths[0]) if worker in predicted else None,
                measured=shares(seen[worker], lengths[1]) if worker in seen else None,
                predicted_bytes=expected.get(str(worker)),
                measured_bytes=max(peaks, default=0) or None,
            )
        )
    return rows
