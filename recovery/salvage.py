"""What is left of a step after a failure, as Programs that start from what survivors hold.

The rule is that nothing is computed again that somebody still has. A micro-batch on a layer is
done if a survivor has its weight gradient in a partial sum, or somebody has the layer's whole
reduced gradient. What is not done is done by whoever holds its forward, or by the worker that the
new plan names. An input that is not held makes the part below do its F again, and a gradient that
is not held makes the part above do both again, also where their weight gradients are done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ithaca.planner.plan import Plan, Schedule, Stage
from ithaca.planner.program import (
    Action,
    Commit,
    Compute,
    Program,
    Reduce,
    Share,
    Spread,
    Step,
    Tie,
)
from ithaca.planner.span import Span
from ithaca.planner.timetable import Need, Part, Timetable, pieces_of, routes_of
from ithaca.recovery.standing import Place, Standing


class SalvageError(ValueError):
    """The standings cannot be those of one step of one job; the message says why."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a step.

    Attributes:
        programs: of every worker of the plan.
        redone: by worker, its computes of parts that a lost worker had done, or may have done.
    """

    programs: Mapping[int, Program]
    redone: Mapping[int, tuple[Compute, ...]]


def rest_of_step(
    plan: Plan,
    standings: Mapping[int, Standing],
    *,
    ties: Iterable[tuple[int, int]] = (),
    split: Sequence[bool] | None = None,
    before: Plan | None = None,
) -> Rest:
    """The Programs that end the step under way.

    Args:
        plan: of the new generation. Everybody in it must hold the layers it is given there.
        standings: of everybody in ``plan``, at the same step; whoever is new has begun nothing.
        ties: pairs of layers that share a weight.
        split: per layer, whether I + W may replace B; by default none may.
        before: the plan that was in force; parts that its lost workers had are told as redone.

    Raises:
        SalvageError: a worker lacks layers or a standing, or the standings contradict each other.
    """
    _check(plan, standings)
    held = _Held(plan, standings)
    parts = [
        part
        for pipeline in plan.pipelines
        for turn, micro_batch in enumerate(pipeline.micro_batches)
        for part in _chain(plan, pipeline.stages, micro_batch, turn, held, split)
    ]
    table = Timetable(plan.workers, parts, plan.schedule)
    for action in _collectives(plan, parts, held, ties, table.finish):
        for worker in _members(action):
            table.actions[worker].append(action)
    for worker, actions in table.actions.items():
        actions.append(Commit())
        actions += [Step(s.layers) for s in (*plan.stages(), *plan.shadows) if s.worker == worker]
    programs = {
        worker: Program(
            worker, plan.generation, plan.num_layers, plan.num_micro_batches, tuple(actions)
        )
        for worker, actions in table.actions.items()
    }
    return Rest(programs, _redone(table.actions, before, standings))


def _check(plan: Plan, standings: Mapping[int, Standing]) -> None:
    missing = [worker for worker in plan.workers if worker not in standings]
    if missing:
        raise SalvageError(f"there is no standing of workers {missing}")
    steps = {standings[worker].step for worker in plan.workers}
    if len(steps) != 1:
        raise SalvageError(f"workers stand in different steps: {sorted(steps)}")
    for worker in plan.workers:
        lacking = sorted(set(plan.held(worker)) - standings[worker].layers)
        if lacking:
            raise SalvageError(f"worker {worker} does not hold layers {lacking} of its part")
    if not keeps(plan, standings):
        raise SalvageError(
            "the plan takes layers from workers that have summed gradients of them: it can be "
            "entered between steps only"
        )


def keeps(plan: Plan, standings: Mapping[int, Standing]) -> bool:
    """Whether a step under way can go on under ``plan``: everybody keeps what it has begun."""
    workers = set(plan.workers)
    return all(
        worker in workers and set(standing.summed) <= set(plan.held(worker))
        for worker, standing in standings.items()
        if standing.begun
    )


class _Held:
    """Who holds what of the step, over all workers of a plan."""

    def __init__(self, plan: Plan, standings: Mapping[int, Standing]) -> None:
        self.num_layers = plan.num_layers
        self.standings = {worker: standings[worker] for worker in plan.workers}
        self.summed: dict[Place, int] = {}
        self.forwards: dict[Place, int] = {}
        self.owed: dict[Place, int] = {}
        self.activations: dict[Place, list[int]] = {}
        self.gradients: dict[Place, list[int]] = {}
        self.reduced: dict[int, list[int]] = {}
        self.losses: set[int] = set()
        for worker, standing in self.standings.items():
            for layer, micro_batches in standing.summed.items():
                for micro_batch in micro_batches:
                    other = self.summed.setdefault((layer, micro_batch), worker)
                    if other != worker:
                        raise SalvageError(
                            f"workers {other} and {worker} both summed the gradient of "
                            f"micro-batch {micro_batch} in layer {layer}"
                        )
            self.forwards |= dict.fromkeys(standing.forwards, worker)
            self.owed |= dict.fromkeys(standing.owed, worker)
            for place in standing.activations:
                self.activations.setdefault(place, []).append(worker)
            for place in standing.gradients:
                self.gradients.setdefault(place, []).append(worker)
            for layer in standing.reduced:
                self.reduced.setdefault(layer, []).append(worker)
            self.losses |= standing.losses

    def need(self, layer: int, micro_batch: int) -> tuple[Need, int | None]:
        """What is to be done of a place for its weight gradient, and who has begun it."""
        place = (layer, micro_batch)
        if layer in self.reduced or place in self.summed:
            return Need.NOTHING, self.summed.get(place)
        if place in self.owed:
            return Need.WEIGHTS, self.owed[place]
        if place in self.forwards:
            return Need.BACKWARD, self.forwards[place]
        return Need.ALL, None

    def holder(self, places: Mapping[Place, Sequence[int]], place: Place, near: int) -> int | None:
        """Who has ``place``: ``near`` if it does, or the first; None if nobody."""
        holders = places.get(place, ())
        return near if near in holders else min(holders, default=None)


def _chain(
    plan: Plan,
    stages: Sequence[Stage],
    micro_batch: int,
    turn: int,
    held: _Held,
    split: Sequence[bool] | None,
) -> list[Part]:
    """The parts of one micro-batch, with what each still needs."""
    routes = routes_of(plan).get(micro_batch, ())
    splits = plan.schedule is Schedule.ONE_F_ONE_B_SPLIT
    parts: list[Part] = []
    for depth, stage in enumerate(stages):
        for layers, default in pieces_of(stage, routes):
            cells = [(*held.need(layer, micro_batch), layer) for layer in layers]
            for (need, begun), run in groupby(cells, key=lambda cell: cell[:2]):
                own = [layer for *_, layer in run]
                part = Part(
                    micro_batch,
                    Span(own[0], own[-1] + 1),
                    default if begun is None else begun,
                    turn,
                    depth,
                    len(stages),
                    splits and split is not None and all(split[layer] for layer in own),
                    below=parts[-1] if parts else None,
                    need=need,
                )
                if part.need is Need.WEIGHTS:
                    part.split = True
                if parts:
                    parts[-1].above = part
                parts.append(part)
    _demand(parts, micro_batch, held)
    return parts


def _demand(parts: list[Part], micro_batch: int, held: _Held) -> None:
    """Let neighbours do again what a part needs and nobody holds; until nothing changes."""
    top = parts[-1]
    if micro_batch not in held.losses and not top.needs_forward:
        top.need = Need.ALL if top.need is Need.BACKWARD else Need.FORWARD
    changed = True
    while changed:
        changed = False
        for part in parts:
            below, above = part.below, part.above
            if part.needs_forward and below is not None:
                place = (part.layers.first, micro_batch)
                part.activation_at = held.holder(held.activations, place, part.worker)
                if part.activation_at is None and not below.needs_forward:
                    below.need = _with_forward(below.need)
                    changed = True
            if part.needs_gradient and above is not None:
                place = (part.layers.last, micro_batch)
                part.gradient_at = held.holder(held.gradients, place, part.worker)
                if part.gradient_at is None and not above.needs_gradient:
                    above.need = Need.ALL
                    changed = True


def _with_forward(need: Need) -> Need:
    # Whoever has a forward under way holds its output, so only what is done can be asked for it.
    return Need.FORWARD if need is Need.NOTHING else Need.ALL


def _collectives(
    plan: Plan,
    parts: Sequence[Part],
    held: _Held,
    ties: Iterable[tuple[int, int]],
    finish: Mapping[int, int],
) -> list[Action]:
    """SPREAD, REDUCE and TIE in one order for all workers."""
    brought: dict[tuple[int, int], set[int]] = {}
    for (layer, micro_batch), worker in held.summed.items():
        brought.setdefault((layer, worker), set()).add(micro_batch)
    for part in parts:
        if part.need in (Need.ALL, Need.BACKWARD, Need.WEIGHTS):
            for layer in part.layers:
                brought.setdefault((layer, part.worker), set()).add(part.micro_batch)

    def what(layer: int) -> Reduce | Spread | None:
        span, holders = Span(layer, layer + 1), plan.holders(layer)
        having = sorted(held.reduced.get(layer, ()))
        if having:
            lacking = tuple(worker for worker in holders if worker not in having)
            return Spread(span, having[0], lacking) if lacking else None
        shares = tuple(
            Share(worker, tuple(sorted(brought.get((layer, worker), ())))) for worker in holders
        )
        return Reduce(span, shares)

    found: list[Reduce | Spread] = []
    for layer in range(plan.num_layers):
        action = what(layer)
        if action is not None:
            if found and _joins(found[-1], action):
                found[-1] = _joined(found[-1], action)
            else:
                found.append(action)
    found.sort(key=lambda a: (max(finish[w] for w in _members(a)), -a.layers.first))
    tied = [
        Tie(lower, upper, plan.holders(lower), plan.holders(upper))
        for lower, upper in sorted((min(pair), max(pair)) for pair in ties)
    ]
    return [*found, *tied]


def _joins(left: Reduce | Spread, right: Reduce | Spread) -> bool:
    if left.layers.last != right.layers.first:
        return False
    if isinstance(left, Reduce):
        return isinstance(right, Reduce) and left.shares == right.shares
    return isinstance(right, Spread) and (left.source, left.targets) == (
        right.source,
        right.targets,
    )


def _joined(left: Reduce | Spread, right: Reduce | Spread) -> Reduce | Spread:
    span = Span(left.layers.first, right.layers.last)
    if isinstance(left, Reduce):
        return Reduce(span, left.shares)
    return Spread(span, left.source, left.targets)


def _members(action: Action) -> Sequence[int]:
    if isinstance(action, Reduce):
        return [share.worker for share in action.shares]
    assert isinstance(action, Spread | Tie), "only collectives have members"
    return action.workers


def _redone(
    actions: Mapping[int, Sequence[Action]],
    before: Plan | None,
    standings: Mapping[int, Standing],
) -> dict[int, tuple[Compute, ...]]:
    """Computes of what the plan before had given to somebody who is gone."""
    if before is None:
        return {}
    gone = {worker for worker in before.workers if worker not in standings}
    found: dict[int, list[Compute]] = {}
    computes = [(w, a) for w in sorted(actions) for a in actions[w] if isinstance(a, Compute)]
    for worker, action in computes:
        owners = [(layer, before.worker_of(layer, action.micro_batch)) for layer in action.layers]
        for lost, run in groupby(owners, key=lambda owner: owner[1] in gone):
            layers = [layer for layer, _ in run]
            if lost:
                span = Span(layers[0], layers[-1] + 1)
                redone = Compute(action.op, span, action.micro_batch)
                found.setdefault(worker, []).append(redone)
    return {worker: tuple(each) for worker, each in found.items()}
