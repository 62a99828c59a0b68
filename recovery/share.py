"""Micro-batches dealt anew over pipelines that stay as they are."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from ithaca.planner.deal import aligned, blocks, counts
from ithaca.planner.plan import Pipeline, Route
from ithaca.planner.profile import Profile
from ithaca.planner.span import Span
from ithaca.recovery.cover import Chain, spans
from ithaca.recovery.strategy import Situation


def dealt(situation: Situation, whole: Sequence[Chain]) -> Iterator[tuple[Pipeline, ...]]:
    """Blocks that end together; if memory is limited, also blocks that need the least of it."""
    total = situation.plan.num_micro_batches
    used = min(len(whole), total)
    rest = tuple(Pipeline(chain, ()) for chain in whole[used:])
    profile = situation.profile
    options = [blocks(counts(range(used), total, lambda p, n: seconds(whole[p], n, profile)))]
    if situation.memory_limit_bytes is not None:
        options.append(aligned(used, total))
    for option in options:
        yield (
            *(
                Pipeline(chain, tuple(block))
                for chain, block in zip(whole[:used], option, strict=True)
            ),
            *rest,
        )


def relieved(
    situation: Situation, pipelines: tuple[Pipeline, ...]
) -> tuple[tuple[Route, ...], float]:
    """Detours of ``pipelines`` through workers without a stage, where that levels the load.

    Also by how much the largest load gets smaller, from 0 to 1.

    The most loaded worker gives one micro-batch at a time to an idle holder of its layers, until
    the taker would have more than it; then the next one gives, for less load in one stage lets the
    others start earlier. What a taker gets is spread over the block it
    comes from, so that both are busy all the time.
    """
    costs = _per_layer(situation.profile)
    staged = {s.worker: (p, s) for p in pipelines for s in p.stages}
    load = {w: len(p.micro_batches) * _sum(costs, s.layers) for w, (p, s) in staged.items()}
    before = max(load.values())
    idle = {w: held for w, held in situation.staying.items() if w not in staged and held}
    taken = dict.fromkeys(idle, 0.0)
    given: dict[int, list[tuple[int, Span]]] = {worker: [] for worker in staged}
    heap = [(-busy, worker) for worker, busy in load.items()] if idle else []
    heapq.heapify(heap)
    while heap:
        giver = heapq.heappop(heap)[1]
        pipeline, stage = staged[giver]
        offers = [
            (taken[taker] + _sum(costs, span), taker, span)
            for taker, held in idle.items()
            for span in spans(held & frozenset(stage.layers))
        ]
        best = min(offers, default=None)
        full = len(given[giver]) == len(pipeline.micro_batches)
        if best is None or full or best[0] >= load[giver]:
            continue
        _, taker, span = best
        taken[taker] = best[0]
        load[giver] -= _sum(costs, span)
        given[giver].append((taker, span))
        heapq.heappush(heap, (-load[giver], giver))
    routes = [
        Route(micro_batch, span, taker)
        for giver, offers_taken in given.items()
        for micro_batch, (taker, span) in zip(
            _spread(staged[giver][0].micro_batches, len(offers_taken)), offers_taken, strict=True
        )
    ]
    after = max([*load.values(), *taken.values()])
    gained = 1 - after / before if before > 0 else 0.0
    return tuple(sorted(routes, key=lambda r: (r.micro_batch, r.layers))), gained


def _spread(ids: Sequence[int], count: int) -> list[int]:
    """``count`` of ``ids``, as evenly spaced as can be."""
    return [ids[(2 * i + 1) * len(ids) // (2 * count)] for i in range(count)]


def seconds(chain: Chain, micro_batches: int, profile: Profile) -> float:
    """About how long ``chain`` takes for ``micro_batches``: fill it, then its slowest stage."""
    costs = _per_layer(profile)
    stages = [_sum(costs, stage.layers) for stage in chain]
    return sum(stages) + (micro_batches - 1) * max(stages)


def _per_layer(profile: Profile) -> list[float]:
    return [layer.forward_s + layer.backward_s for layer in profile.layers]


def _sum(costs: Sequence[float], layers: Span) -> float:
    return sum(costs[layers.first : layers.last])
