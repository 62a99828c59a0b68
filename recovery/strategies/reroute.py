"""Reroute: others who hold the lost worker's layers take its micro-batches; no state moves.

Two kinds of plan, both with every layer where it is:

- *detours* leave every micro-batch where it was and give only what the lost worker computed to
  others, so a step that is under way can be finished under them;
- *shares* deal the micro-batches anew over the pipelines that are whole. Survivors of broken
  pipelines compute a part of what they used to, or keep their layers as shadows only.

ReCycle (SOSP'24) has the first kind. The published estimate of it (arXiv 2508.21613, Eq. 12, 13)
adds the detours to a full pipeline; here each plan is simulated, with the backward split to fill
bubbles where the layers allow it, and the reductions start in the order in which they are ready.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule
from ithaca.planner.span import Span
from ithaca.planner.timetable import pieces_of, routes_of
from ithaca.recovery.cover import Chain, chains, shadows
from ithaca.recovery.forecast import candidate, price
from ithaca.recovery.share import dealt, relieved
from ithaca.recovery.strategy import Candidate, Situation, StrategyName

Pieces = list[tuple[Span, int]]
"""Who computes which layers of one micro-batch, in order."""

SIMULATED_COMPUTES = 1_000
"""Computes that the simulations behind the first one may have; some ten ms."""

WORTH_DETOURS = 0.05
"""If detours through idle holders take so much off the largest load they are looked at first."""


class Reroute:
    """Detours and new shares over the layers that are there."""

    name = StrategyName.REROUTE

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """At most a handful of plans; none if those who stay cannot form a pipeline.

        Where the fast schedule takes too much memory the one of the plan before is tried.
        """
        budget = SIMULATED_COMPUTES
        for place, plan in enumerate(plans(situation)):
            if place and price(plan) > budget:
                continue
            budget -= price(plan) if place else 0
            found = candidate(self.name, plan, situation)
            yield found
            if not found.feasible and plan.schedule is not situation.plan.schedule:
                lean = replace(plan, schedule=situation.plan.schedule)
                yield candidate(self.name, lean, situation)


def plans(situation: Situation) -> Iterator[Plan]:
    """The plans that keep every layer where it is, the most promising first."""
    found = shares(situation)
    yield from found
    if found and price(found[0]) <= SIMULATED_COMPUTES:
        whole = chains(situation.plan, situation.staying)
        yield detours(situation, whole, faster(situation))


def shares(situation: Situation) -> list[Plan]:
    """Micro-batches dealt anew over the whole pipelines, with and without help of idle holders.

    None if those who stay cannot form a pipeline.
    """
    whole = chains(situation.plan, situation.staying)
    if not whole:
        return []
    schedule = faster(situation)
    found = []
    for homes in dict.fromkeys(dealt(situation, whole)):
        routes, gained = relieved(situation, homes)
        options = [_plan(situation, homes, (), schedule)]
        if routes:
            options.insert(gained < WORTH_DETOURS, _plan(situation, homes, routes, schedule))
        found += options
    return found


def faster(situation: Situation) -> Schedule:
    """The schedule whose backward fills bubbles, if some layer can be split."""
    if any(layer.split for layer in situation.profile.layers):
        return Schedule.ONE_F_ONE_B_SPLIT
    return situation.plan.schedule


def detours(situation: Situation, whole: Sequence[Chain], schedule: Schedule) -> Plan:
    """Only what nobody can compute any more is given to others, the least loaded first."""
    owners = _owners(situation)
    homes: list[list[int]] = [[] for _ in whole]
    places = {stage.worker: place for place, chain in enumerate(whole) for stage in chain}
    routes: list[Route] = []
    for micro_batch, pieces in sorted(owners.items()):
        place = _home(pieces, places, homes)
        homes[place].append(micro_batch)
        routes += _routes(micro_batch, pieces, whole[place])
    pipelines = tuple(Pipeline(chain, tuple(ids)) for chain, ids in zip(whole, homes, strict=True))
    return _plan(situation, pipelines, tuple(routes), schedule)


def _plan(
    situation: Situation,
    pipelines: tuple[Pipeline, ...],
    routes: tuple[Route, ...],
    schedule: Schedule,
) -> Plan:
    held = shadows([pipeline.stages for pipeline in pipelines], situation.staying)
    generation = situation.plan.generation + 1
    return Plan(pipelines, schedule, generation, routes, held)


def _owners(situation: Situation) -> dict[int, Pieces]:
    """Who computes what of each micro-batch: as before where possible, else the least loaded."""
    staying, layers = situation.staying, situation.profile.layers
    sums = [0.0, *accumulate(layer.forward_s + layer.backward_s for layer in layers)]
    detours_before = routes_of(situation.plan)
    owners: dict[int, Pieces] = {}
    load: defaultdict[int, float] = defaultdict(float)
    for pipeline in situation.plan.pipelines:
        for micro_batch in pipeline.micro_batches:
            routes = detours_before.get(micro_batch, ())
            pieces = [piece for s in pipeline.stages for piece in pieces_of(s, routes)]
            owners[micro_batch] = pieces
            for span, worker in pieces:
                load[worker] += sums[span.last] - sums[span.first]
    for micro_batch in sorted(owners):
        pieces = []
        for span, worker in owners[micro_batch]:
            if staying.get(worker, frozenset()).issuperset(span):
                pieces.append((span, worker))
                continue
            for part in _parts(span, staying):
                able = [w for w, held in staying.items() if held.issuperset(part)]
                taker = min(able, key=lambda w: (load[w], w))
                load[taker] += sums[part.last] - sums[part.first]
                pieces.append((part, taker))
        owners[micro_batch] = pieces
    return owners


def _parts(span: Span, held: dict[int, frozenset[int]]) -> Iterator[Span]:
    """``span`` cut as seldom as possible into parts that some worker holds whole."""
    first = span.first
    while first < span.last:
        last = first + 1
        while last < span.last and any(
            layers.issuperset(range(first, last + 1)) for layers in held.values()
        ):
            last += 1
        yield Span(first, last)
        first = last


def _home(pieces: Pieces, places: dict[int, int], homes: Sequence[Sequence[int]]) -> int:
    """The whole pipeline that computes most layers of the micro-batch; on ties the emptiest.

    ``places`` has the pipeline of each worker that has a stage in one.
    """
    common = dict.fromkeys(range(len(homes)), 0)
    for span, worker in pieces:
        if worker in places:
            common[places[worker]] += len(span)
    return max(common, key=lambda place: (common[place], -len(homes[place]), -place))


def _routes(micro_batch: int, pieces: Pieces, home: Chain) -> Iterator[Route]:
    """The detours from ``home`` to what ``pieces`` say, one for each part of a stage."""
    stages = iter(home)
    stage = next(stages)
    for span, worker in pieces:
        first = span.first
        while first < span.last:
            if first == stage.layers.last:
                stage = next(stages)
            last = min(span.last, stage.layers.last)
            if worker != stage.worker:
                yield Route(micro_batch, Span(first, last), worker)
            first = last
