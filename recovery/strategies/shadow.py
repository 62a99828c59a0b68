"""Shadow: workers without a stage take one over; state is held twice before it is needed.

- *replace*: idle workers of the plan, and spares with or without state, take the places of those
  that are lost or about to leave, at a step boundary; what they hold already is not sent.
- *drain*: where only leaving workers hold a layer, others become shadows of it before the kill.
- *keep*: nothing is lost, so the plan may stay as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ithaca.planner.plan import Pipeline, Stage
from ithaca.recovery.forecast import candidate
from ithaca.recovery.moves import seat
from ithaca.recovery.redundancy import missing_shadows
from ithaca.recovery.strategies.reroute import plans
from ithaca.recovery.strategy import Candidate, Situation, StrategyName


class Shadow:
    """Replacements, drains, and the plan as it is."""

    name = StrategyName.SHADOW

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """Nothing if a layer has no holder."""
        if situation.orphans:
            return
        yield from _replaced(situation)
        if not situation.lost:
            yield from _kept(situation)


def _replaced(situation: Situation) -> Iterator[Candidate]:
    """The plan with idle workers in the empty places; broken pipelines first, the least broken."""
    plan, available = situation.plan, set(situation.available)
    staged = {stage.worker for stage in plan.stages()}
    idle = sorted(available - staged)
    gaps = [
        [stage for stage in pipeline.stages if stage.worker not in available]
        for pipeline in plan.pipelines
    ]
    places = [stage for gap in sorted(filter(None, gaps), key=len) for stage in gap][: len(idle)]
    if not places:
        return
    wanted = [frozenset(stage.layers) for stage in places]
    chosen = seat(wanted, idle, situation.there, situation.profile)
    takers = {stage.worker: taker for stage, taker in zip(places, chosen, strict=True)}
    filled = _renamed(situation, takers)
    for option in plans(filled):
        yield candidate(StrategyName.SHADOW, option, situation, _names(takers))


def _renamed(situation: Situation, takers: dict[int, int]) -> Situation:
    """The situation as if ``takers`` had always been in the place of those they replace."""
    plan = situation.plan

    def named(stage: Stage) -> Stage:
        return Stage(stage.layers, takers.get(stage.worker, stage.worker))

    pipelines = tuple(
        Pipeline(tuple(map(named, pipeline.stages)), pipeline.micro_batches)
        for pipeline in plan.pipelines
    )
    places = {stage.worker: frozenset(stage.layers) for p in pipelines for stage in p.stages}
    holdings = {
        worker: places[worker] if worker in takers.values() else situation.held(worker)
        for worker in situation.there
    }
    there = set(takers.values()) | set(situation.survivors)
    named_routes = (replace(r, worker=takers.get(r.worker, r.worker)) for r in plan.routes)
    # Who takes a place gives up what it held as a shadow, and the detours that led there.
    routes = tuple(
        route
        for route in named_routes
        if route.worker not in takers.values() or places[route.worker].issuperset(route.layers)
    )
    shadows = tuple(s for s in plan.shadows if s.worker not in takers.values())
    return replace(
        situation,
        plan=replace(plan, pipelines=pipelines, routes=routes, shadows=shadows),
        lost=situation.lost - takers.keys(),
        leaving=situation.leaving - takers.keys(),
        spares=tuple(w for w in situation.spares if w not in takers.values()),
        holdings={worker: layers for worker, layers in holdings.items() if worker in there},
    )


def _kept(situation: Situation) -> Iterator[Candidate]:
    """The plan as it is, if it would survive those who leave; else with shadows that make it so."""
    plan = replace(situation.plan, generation=situation.plan.generation + 1)
    alone = [
        layer
        for layer in range(plan.num_layers)
        if situation.leaving.issuperset(plan.holders(layer))
    ]
    if not alone:
        same = candidate(StrategyName.KEEP, situation.plan, situation, "nothing is lost")
        yield replace(same, transition_s=0.0)
        return
    added = missing_shadows(plan, alone, situation, situation.leaving)
    covered = {layer for shadow in added for layer in shadow.layers}
    safe = replace(plan, shadows=(*plan.shadows, *added))
    found = candidate(StrategyName.SHADOW, safe, situation, "drained before the kill")
    if left := sorted(set(alone) - covered):
        reason = f"nobody has room for layers {left}, which only leaving workers hold"
        found = replace(found, feasible=False, reason=reason)
    yield found


def _names(takers: dict[int, int]) -> str:
    pairs = [f"w{new} for w{old}" for old, new in sorted(takers.items())]
    return ", ".join(pairs)
