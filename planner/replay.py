"""Sampled replay: in some steps a worker computes again what another one has computed."""

from __future__ import annotations

from dataclasses import replace

from ithaca.planner.plan import Plan
from ithaca.planner.program import Commit, Program, Replay
from ithaca.planner.timetable import pieces_of, routes_of

_STRIDE = 0x9E3779B97F4A7C15
"""Odd and far from any number of places: neighbours in time are not neighbours in the plan."""


def replay_of(plan: Plan, turn: int) -> Replay | None:
    """The replay number ``turn``, a function of both alone; None if no layer has two holders.

    Every part of every micro-batch whose layers another worker holds too is a place that can be
    drawn; over many turns all are.
    """
    routes = routes_of(plan)
    held = {worker: frozenset(plan.held(worker)) for worker in plan.workers}
    places = []
    for pipeline in plan.pipelines:
        for micro_batch in pipeline.micro_batches:
            for stage in pipeline.stages:
                for span, source in pieces_of(stage, routes.get(micro_batch, ())):
                    able = [w for w in held if w != source and held[w].issuperset(span)]
                    places += [Replay(span, micro_batch, source, target) for target in able]
    if not places:
        return None
    return places[(turn + 1) * _STRIDE % 2**64 % len(places)]


def with_replay(program: Program, extra: Replay | None) -> Program:
    """``program`` with ``extra`` before its COMMIT, if it is one of its worker's."""
    if extra is None or program.worker not in extra.workers:
        return program
    place = next(i for i, action in enumerate(program.actions) if isinstance(action, Commit))
    actions = (*program.actions[:place], extra, *program.actions[place:])
    return replace(program, actions=actions)
