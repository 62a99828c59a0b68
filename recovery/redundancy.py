"""A second holder for every layer, where memory allows: which shadows to add to a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ithaca.planner.plan import Plan, Stage
from ithaca.planner.span import Span
from ithaca.recovery.cover import spans
from ithaca.recovery.forecast import candidate, look
from ithaca.recovery.moves import state_bytes
from ithaca.recovery.score import node_of
from ithaca.recovery.strategy import (
    Candidate,
    Situation,
    StrategyName,
    holders,
    parts,
    single_holders,
)


def restored(plan: Plan, situation: Situation) -> Candidate | None:
    """``plan`` with the shadows that it lacks, as a candidate; None if none can be added.

    Layers that nobody has room for stay with one holder; ``single_holders`` of the candidate has
    them.
    """
    added = missing_shadows(plan, single_holders(plan), situation)
    if not added:
        return None
    safer = replace(plan, generation=situation.plan.generation + 1, shadows=(*plan.shadows, *added))
    return candidate(StrategyName.SHADOW, safer, situation, "a second holder of every layer")


def kept(plan: Plan, situation: Situation) -> tuple[Stage, ...]:
    """Shadows that cost no move: layers with one holder in ``plan`` that others have already."""
    alone = single_holders(plan)
    having = holders(plan)
    there = [
        layer
        for layer in alone
        if any(
            layer in held and worker not in having[layer]
            for worker, held in situation.staying.items()
        )
    ]
    if not there:
        return ()
    return tuple(
        shadow
        for shadow in missing_shadows(plan, there, situation)
        if situation.held(shadow.worker).issuperset(shadow.layers)
    )


def missing_shadows(
    plan: Plan, layers: Iterable[int], situation: Situation, away: frozenset[int] = frozenset()
) -> tuple[Stage, ...]:
    """Shadows of ``layers`` on workers with room for them; ``away`` are no workers to be used.

    Each run of layers goes to one worker, or in parts to several if none has room for all of it.
    Preferred is who has the state already, then another machine than the holder's, then who holds
    the layers next to the run (it can take the stage over whole), then who has most room.
    """
    peaks = look(plan, situation).peak_bytes
    limit = situation.memory_limit_bytes
    # Without a limit the one with the smallest peak has most room.
    room = {
        worker: (limit if limit is not None else 1 << 62) - peaks.get(worker, 0)
        for worker in situation.available
        if worker not in away
    }
    there = parts(plan)
    held = {worker: set(there.get(worker, ())) for worker in room}
    added: list[Stage] = []
    for run in _runs(plan, layers):
        todo = [run]
        while todo:
            span = todo.pop()
            taker = _taker(span, plan, held, room, situation)
            if taker is not None:
                added.append(Stage(span, taker))
                held[taker].update(span)
                room[taker] -= _bytes(span, situation)
            elif len(span) > 1:
                middle = (span.first + span.last) // 2
                todo += [Span(middle, span.last), Span(span.first, middle)]
    return tuple(added)


def _runs(plan: Plan, layers: Iterable[int]) -> list[Span]:
    """``layers`` in runs that have the same holders."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for layer in layers:
        groups.setdefault(plan.holders(layer), []).append(layer)
    return sorted(span for group in groups.values() for span in spans(group))


def _taker(
    span: Span,
    plan: Plan,
    held: dict[int, set[int]],
    room: dict[int, int],
    situation: Situation,
) -> int | None:
    size = _bytes(span, situation)
    nodes = {node_of(w, situation) for layer in span for w in plan.holders(layer)}

    def worth(worker: int) -> tuple[int, bool, bool, int, int]:
        has = len(situation.held(worker).intersection(span))
        beside = span.last in held[worker] or span.first - 1 in held[worker]
        return has, node_of(worker, situation) not in nodes, beside, room[worker], -worker

    able = [w for w in room if room[w] >= size and held[w].isdisjoint(span)]
    return max(able, key=worth, default=None)


def _bytes(span: Span, situation: Situation) -> int:
    """What a shadow of ``span`` takes at most: state, the reduced gradient, chunks arriving."""
    layers = [situation.profile.layers[layer] for layer in span]
    return sum(state_bytes(layer) + 2 * layer.grad_bytes for layer in layers)
