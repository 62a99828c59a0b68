"""Small changes to a plan, for a search to try."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.span import Span


def neighbours(plan: Plan) -> Iterator[Plan]:
    """Plans that differ from ``plan`` in one border between stages, or in one between blocks.

    A border is moved in one pipeline, or in all that are split alike.

    Blocks of micro-batches stay contiguous and not empty; routes are not kept.
    """
    for place, pipeline in enumerate(plan.pipelines):
        for moved in _moved_borders(pipeline):
            yield _with(plan, {place: moved})
    yield from _moved_alike(plan)
    order = sorted(range(len(plan.pipelines)), key=lambda p: plan.pipelines[p].micro_batches)
    for left, right in pairwise(order):
        low, high = plan.pipelines[left].micro_batches, plan.pipelines[right].micro_batches
        if len(low) > 1:
            dealt = {left: low[:-1], right: (low[-1], *high)}
            yield _with(plan, {p: Pipeline(plan.pipelines[p].stages, dealt[p]) for p in dealt})
        if len(high) > 1:
            dealt = {left: (*low, high[0]), right: high[1:]}
            yield _with(plan, {p: Pipeline(plan.pipelines[p].stages, dealt[p]) for p in dealt})


def _moved_alike(plan: Plan) -> Iterator[Plan]:
    alike: dict[tuple[Span, ...], list[int]] = {}
    for place, pipeline in enumerate(plan.pipelines):
        alike.setdefault(tuple(stage.layers for stage in pipeline.stages), []).append(place)
    for places in alike.values():
        if len(places) > 1:
            each = zip(*(_moved_borders(plan.pipelines[place]) for place in places), strict=True)
            for moved in each:
                yield _with(plan, dict(zip(places, moved, strict=True)))


def _moved_borders(pipeline: Pipeline) -> Iterator[Pipeline]:
    stages = pipeline.stages
    for index in range(len(stages) - 1):
        lower, upper = stages[index], stages[index + 1]
        for border in (lower.layers.last - 1, lower.layers.last + 1):
            if lower.layers.first < border < upper.layers.last:
                changed = (
                    Stage(Span(lower.layers.first, border), lower.worker),
                    Stage(Span(border, upper.layers.last), upper.worker),
                )
                moved = (*stages[:index], *changed, *stages[index + 2 :])
                yield Pipeline(moved, pipeline.micro_batches)


def _with(plan: Plan, changed: dict[int, Pipeline]) -> Plan:
    pipelines = [changed.get(place, p) for place, p in enumerate(plan.pipelines)]
    return Plan(tuple(pipelines), plan.schedule)
