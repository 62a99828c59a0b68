"""Detours around lost workers: who computes what they computed, if no layer moves.

A pipeline that lost a worker is broken. Its micro-batches get a home in whole pipelines, dealt
evenly, but wherever it has survivors these compute them as before, by detours; only what the lost
worker computed lands on the home's own worker. So survivors bring the same partial sums to a
reduction as ever, and each home takes in neighbouring micro-batches: both keep reductions short,
which matters more than the place of the detours in the schedule. It takes milliseconds for a
thousand workers.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.span import Span


def rerouted(plan: Plan, lost: Collection[int], schedule: Schedule | None = None) -> Plan | None:
    """``plan`` without ``lost`` workers, with detours; its next generation.

    Survivors of broken pipelines hold their layers as shadows. No micro-batch leaves a worker that
    is still there.

    Args:
        plan: without detours and shadows.
        lost: workers of it.
        schedule: of the new plan; by default that of ``plan``.

    Returns:
        None if some broken pipeline has no whole one that is split like it.
    """
    gone = frozenset(lost)
    whole = [p for p in plan.pipelines if gone.isdisjoint(s.worker for s in p.stages)]
    broken = [p for p in plan.pipelines if not gone.isdisjoint(s.worker for s in p.stages)]
    if not {_split(p) for p in broken} <= {_split(p) for p in whole}:
        return None
    homes = [list(pipeline.micro_batches) for pipeline in whole]
    routes: list[Route] = []
    shadows: list[Stage] = []
    for pipeline, counts in zip(broken, _taken(whole, broken, gone), strict=True):
        survivors = [stage for stage in pipeline.stages if stage.worker not in gone]
        shadows += survivors
        routes += [
            Route(micro_batch, stage.layers, stage.worker)
            for micro_batch in pipeline.micro_batches
            for stage in survivors
        ]
        ids = iter(pipeline.micro_batches)
        for place, count in sorted(counts.items()):
            homes[place] += islice(ids, count)
    pipelines = tuple(
        Pipeline(pipeline.stages, tuple(sorted(ids)))
        for pipeline, ids in zip(whole, homes, strict=True)
    )
    return replace(
        plan,
        pipelines=pipelines,
        schedule=schedule or plan.schedule,
        generation=plan.generation + 1,
        routes=tuple(routes),
        shadows=tuple(shadows),
    )


def _taken(
    whole: Sequence[Pipeline], broken: Sequence[Pipeline], gone: frozenset[int]
) -> list[Counter[int]]:
    """For each broken pipeline, how many micro-batches each whole one takes in."""
    alike: dict[tuple[Span, ...], list[int]] = defaultdict(list)
    for place, pipeline in enumerate(whole):
        alike[_split(pipeline)].append(place)
    # A heap for every kind of loss: those who lost other layers do not add to the same workers.
    heaps: dict[tuple[tuple[Span, ...], tuple[Span, ...]], list[tuple[int, int]]] = {}
    taken = []
    for pipeline in broken:
        missing = tuple(stage.layers for stage in pipeline.stages if stage.worker in gone)
        key = _split(pipeline), missing
        if key not in heaps:
            heaps[key] = [(len(whole[place].micro_batches), place) for place in alike[key[0]]]
            heapq.heapify(heaps[key])
        counts: Counter[int] = Counter()
        for _ in pipeline.micro_batches:
            load, place = heaps[key][0]
            heapq.heapreplace(heaps[key], (load + 1, place))
            counts[place] += 1
        taken.append(counts)
    return taken


def _split(pipeline: Pipeline) -> tuple[Span, ...]:
    return tuple(stage.layers for stage in pipeline.stages)
