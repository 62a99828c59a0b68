"""Bamboo: every worker computes the next stage's forwards too (NSDI'23); simulated, never run.

Redundant pre-computation pays for a fast recovery in every step: a worker holds the stage behind
its own, and runs its forwards where it would wait. When the neighbour dies it takes over without
redoing forwards. Here it is a candidate for comparison: it says what a step would take, and is
infeasible for the engine, which keeps boundary tensors instead and loses next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ithaca.planner.plan import Plan, Stage
from ithaca.planner.program import Action, Compute, Op, Program
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from ithaca.recovery.cover import spans
from ithaca.recovery.forecast import candidate
from ithaca.recovery.strategies.reroute import plans
from ithaca.recovery.strategy import Candidate, Situation, StrategyName


class Bamboo:
    """The first plans of reroute with redundant forwards."""

    name = StrategyName.BAMBOO

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """At most one candidate, never feasible."""
        for plan in plans(situation):
            if plan.routes:
                continue
            ring = redundant(plan)
            found = candidate(self.name, ring, situation)
            made = with_forwards(ring, programs(ring, situation.profile.layers, situation.ties))
            step_s = simulate(made, situation.profile, exact=situation.exact).step_s
            reason = found.reason or "redundant pre-computation is simulated, never run"
            yield replace(found, step_s=step_s, feasible=False, reason=reason)
            return


def redundant(plan: Plan) -> Plan:
    """``plan`` with each worker a shadow of the stage behind its own, the last one of the first."""
    added = [
        Stage(span, stage.worker)
        for stage, layers in _behind(plan).items()
        for span in spans(frozenset(layers) - frozenset(plan.held(stage.worker)))
    ]
    return replace(plan, shadows=(*plan.shadows, *added))


def with_forwards(plan: Plan, made: Mapping[int, Program]) -> dict[int, Program]:
    """``made`` with the redundant forwards, each just before the worker's own backward.

    For the simulator only: what they compute is never used. Memory is that of the shadows, as the
    activations are kept in the host's memory in Bamboo.
    """
    more = {stage.worker: layers for stage, layers in _behind(plan).items()}
    return {
        worker: replace(program, actions=tuple(_with(program, more.get(worker))))
        for worker, program in made.items()
    }


def _behind(plan: Plan) -> dict[Stage, Span]:
    return {
        stage: pipeline.stages[(place + 1) % len(pipeline.stages)].layers
        for pipeline in plan.pipelines
        for place, stage in enumerate(pipeline.stages)
        if len(pipeline.stages) > 1
    }


def _with(program: Program, layers: Span | None) -> Iterator[Action]:
    for action in program:
        if layers and isinstance(action, Compute) and action.op in (Op.B, Op.I):
            yield Compute(Op.F, layers, action.micro_batch)
        yield action
