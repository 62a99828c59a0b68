"""The memory model against what has been seen to run: it must not refuse a measured layout."""

from __future__ import annotations

from benchmarks.recovery_study.job import Job
from benchmarks.recovery_study.shapes import Shapes
from ithaca.planner.calibrate import Measured
from ithaca.planner.memory import peak_bytes
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.schedule import programs


def rejected(job: Job) -> list[Measured]:
    """The measured layouts of ``job`` that would not fit into its cards."""
    return [row for row in job.rows if measured_bytes(job, row) > job.limit_bytes]


def measured_bytes(job: Job, row: Measured) -> int:
    """The most memory of any card in the layout of ``row``."""
    spans = Shapes(job).split(row.stages)
    pipelines, first = [], 0
    for place in range(row.pipelines):
        size, extra = divmod(job.micro_batches, row.pipelines)
        last = first + size + (place < extra)
        stages = tuple(Stage(span, place * row.stages + depth) for depth, span in enumerate(spans))
        pipelines.append(Pipeline(stages, tuple(range(first, last))))
        first = last
    made = programs(Plan(tuple(pipelines)), job.profile.layers)
    return max(peak_bytes(program, job.profile, exact=False) for program in made.values())
