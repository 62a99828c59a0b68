"""From a Plan to the Program of every worker, for a training step and for validation.

The computes and messages come from the :mod:`ithaca.planner.timetable`. Behind them every worker
reduces gradients, adds tied ones, commits and steps. REDUCE and TIE stand in one order that is the
same for all workers, so that no two collectives wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule
from ithaca.planner.program import Action, Commit, Program, Reduce, Share, Step, Tie
from ithaca.planner.rounds import Piece, rounds
from ithaca.planner.span import Span
from ithaca.planner.timetable import Part, Timetable, parts_of, routes_of


def programs(
    plan: Plan,
    layers: int | Sequence[Layer] | None = None,
    ties: Iterable[tuple[int, int]] = (),
    split: Sequence[bool] | None = None,
) -> dict[int, Program]:
    """The training step of every worker of ``plan``, by worker id.

    A stage's backward is I and W if the schedule is ``1f1b-split`` and *all* its layers can be
    split; otherwise it is B. A worker's transfers are with whoever computes the neighbouring stage
    of that micro-batch, routes included; two stages of one micro-batch on one worker need none.

    Args:
        plan: who holds and computes what.
        layers: their profile, of which only ``split`` is read; or their number. Both are checked
            against the plan. Times do not matter: the order is a function of the plan.
        ties: pairs of layers that share a weight.
        split: per layer, whether I + W may replace B; by default what ``layers`` say, and yes for
            every layer if they are not given.

    Raises:
        ValueError: ``layers`` or ``split`` do not have the plan's number of layers, or a tie is
            not a pair of two of them.
    """
    known = [] if layers is None or isinstance(layers, int) else list(layers)
    count = layers if isinstance(layers, int) else len(known) if known else plan.num_layers
    if split is None:
        split = [layer.split for layer in known] or [True] * plan.num_layers
    if count != plan.num_layers or len(split) != plan.num_layers:
        raise ValueError(
            f"the plan has {plan.num_layers} layers, but was given {count} layers and {len(split)} "
            "values of split; use the plan that was made for this workload"
        )
    pairs = _tie_pairs(ties, plan.num_layers)
    if plan.schedule is not Schedule.ONE_F_ONE_B_SPLIT:
        split = [False] * plan.num_layers
    parts = parts_of(plan.pipelines, routes_of(plan), split)
    table = Timetable(plan.workers, parts, plan.schedule)
    for reduce in _reductions(plan, parts, table.finish):
        for share in reduce.shares:
            table.actions[share.worker].append(reduce)
    for lower, upper in pairs:
        tie = Tie(lower, upper, plan.holders(lower), plan.holders(upper))
        for worker in tie.workers:
            table.actions[worker].append(tie)
    for worker, actions in table.actions.items():
        actions.append(Commit())
        actions += [Step(s.layers) for s in (*plan.stages(), *plan.shadows) if s.worker == worker]
    return _programs(plan, plan.num_micro_batches, table.actions)


def validation_programs(plan: Plan, num_micro_batches: int) -> dict[int, Program]:
    """Forward passes of validation micro-batches 0 to ``num_micro_batches`` - 1, then a commit.

    They are dealt over all pipelines in contiguous blocks that differ by at most one, also over
    those that have no training micro-batch; routes name training micro-batches and do not apply.

    Raises:
        ValueError: there is no micro-batch.
    """
    if num_micro_batches < 1:
        raise ValueError(f"validation needs at least 1 micro-batch, not {num_micro_batches}")
    size, extra = divmod(num_micro_batches, len(plan.pipelines))
    dealt, first = [], 0
    for position, pipeline in enumerate(plan.pipelines):
        last = first + size + (position < extra)
        dealt.append(Pipeline(pipeline.stages, tuple(range(first, last))))
        first = last
    parts = parts_of(dealt, {}, [False] * plan.num_layers)
    table = Timetable(plan.workers, parts, plan.schedule, backward=False)
    for actions in table.actions.values():
        actions.append(Commit())
    return _programs(plan, num_micro_batches, table.actions)


def _programs(
    plan: Plan, num_micro_batches: int, actions: dict[int, list[Action]]
) -> dict[int, Program]:
    return {
        worker: Program(
            worker, plan.generation, plan.num_layers, num_micro_batches, tuple(actions[worker])
        )
        for worker in plan.workers
    }


def _reductions(plan: Plan, parts: Sequence[Part], finish: dict[int, int]) -> list[Reduce]:
    """One REDUCE per span between neighbouring stage borders, in rounds that run side by side.

    Between two borders nothing changes: neither who holds the layers nor who computed what on
    them.
    """
    held = (*plan.stages(), *plan.shadows)
    spans = [stage.layers for stage in held] + [route.layers for route in plan.routes]
    borders = sorted({border for span in spans for border in (span.first, span.last)})
    brought: dict[int, dict[int, list[int]]] = {first: {} for first in borders[:-1]}
    position = {border: index for index, border in enumerate(borders)}

    def pieces(layers: Span) -> list[int]:
        return borders[position[layers.first] : position[layers.last]]

    for stage in held:
        for first in pieces(stage.layers):
            brought[first].setdefault(stage.worker, [])
    for part in parts:
        for first in pieces(part.layers):
            brought[first][part.worker].append(part.micro_batch)
    found: dict[int, Reduce] = {}
    waiting = []
    for first, last in pairwise(borders):
        shares = tuple(Share(w, tuple(sorted(ids))) for w, ids in sorted(brought[first].items()))
        found[first] = Reduce(Span(first, last), shares)
        ready = max(finish[worker] for worker in brought[first])
        waiting.append(Piece(first, last, ready, tuple(brought[first])))
    return [found[piece.first] for piece in rounds(waiting)]


def _tie_pairs(ties: Iterable[tuple[int, int]], num_layers: int) -> list[tuple[int, int]]:
    pairs = sorted((min(pair), max(pair)) for pair in ties)
    for lower, upper in pairs:
        if not 0 <= lower < upper < num_layers:
            raise ValueError(
                f"a tie names two layers of 0 to {num_layers - 1}, not {lower} and {upper}"
            )
    if len(set(pairs)) != len(pairs):
        raise ValueError(f"a pair of layers is tied twice: {pairs}")
    return pairs
