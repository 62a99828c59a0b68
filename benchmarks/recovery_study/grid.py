"""Equal pipelines as a grid: for every stage the cards that hold it, however many are left."""

from __future__ import annotations

from collections.abc import Sequence

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.span import Span


def rerouted(
    spans: Sequence[Span],
    seats: Sequence[Sequence[int]],
    micro_batches: int,
    schedule: Schedule = Schedule.ONE_F_ONE_B,
) -> Plan | None:
    """Each stage's micro-batches dealt evenly over its cards; None if a stage has none.

    As many whole pipelines as the emptiest stage allows are the homes of the micro-batches; the
    other cards hold their stage as a shadow and are reached by detours.
    """
    whole = min(map(len, seats))
    if whole == 0:
        return None
    homes = [
        range(micro_batches * k // whole, micro_batches * (k + 1) // whole) for k in range(whole)
    ]
    pipelines = tuple(
        Pipeline(
            tuple(Stage(span, cards[k]) for span, cards in zip(spans, seats, strict=True)),
            tuple(home),
        )
        for k, home in enumerate(homes)
    )
    routes: list[Route] = []
    shadows: list[Stage] = []
    for span, cards in zip(spans, seats, strict=True):
        if len(cards) > whole:
            routes += _detours(span, cards, homes)
            shadows += [Stage(span, card) for card in cards[whole:]]
    return Plan(pipelines, schedule, 0, tuple(routes), tuple(shadows))


def even(cards: int, stages: int, pipelines: int) -> tuple[int, ...]:
    """How many cards each stage gets: as even as can be, at most ``pipelines``, later ones less."""
    size, extra = divmod(min(cards, stages * pipelines), stages)
    return tuple(size + (stage < extra) for stage in range(stages))


def numbered(sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Cards 0, 1, ... dealt to stages of these sizes."""
    seats, first = [], 0
    for size in sizes:
        seats.append(tuple(range(first, first + size)))
        first += size
    return tuple(seats)


def seats_of(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Per stage of the equal pipelines of ``plan``, the cards that hold it, ascending."""
    spans = [stage.layers for stage in plan.pipelines[0].stages]
    held = (*plan.stages(), *plan.shadows)
    return tuple(tuple(sorted(s.worker for s in held if s.layers == span)) for span in spans)


def _detours(span: Span, cards: Sequence[int], homes: Sequence[range]) -> list[Route]:
    """Micro-batches that leave home at one stage so that all of its cards have as many."""
    load = dict.fromkeys(cards, 0)
    extra = cards[len(homes) :]
    order = sorted((turn, k) for k, home in enumerate(homes) for turn in range(len(home)))
    routes = []
    for turn, k in order:
        least = min(extra, key=lambda card: load[card])
        card = cards[k] if load[cards[k]] <= load[least] else least
        load[card] += 1
        if card != cards[k]:
            routes.append(Route(homes[k][turn], span, card))
    return routes
