"""How state gets to where a plan wants it: who takes which place, and who sends what to whom.

Places are taken so that the fewest bytes are missing (an assignment problem, as in
arXiv 2508.21613), only missing layers are sent, and senders are chosen so that none sends more
than it must. What has arrived can be passed on, so one holder serves many in a logarithmic number
of rounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.profile import Profile
from ithaca.recovery.strategy import Move, Rounds, parts

Holdings = Mapping[int, frozenset[int]]


def state_bytes(layer: Layer) -> int:
    """What has to be sent for ``layer``: parameters and optimizer state."""
    return layer.param_bytes + layer.state_bytes


def seat(
    places: Sequence[frozenset[int]],
    workers: Sequence[int],
    holdings: Holdings,
    profile: Profile,
    before: Sequence[int] = (),
) -> tuple[int, ...]:
    """A worker for each of ``places`` (layers wanted there), with the fewest missing bytes in all.

    Args:
        places: the layers that are wanted in each.
        workers: to choose from.
        holdings: what they have.
        profile: the sizes of layers.
        before: who would be in each place; they stay if that costs nothing.

    Raises:
        ValueError: there are more places than workers.
    """
    if len(places) > len(workers):
        raise ValueError(f"{len(places)} places cannot be taken by {len(workers)} workers")
    size = np.array([state_bytes(layer) for layer in profile.layers], dtype=float)
    wanted = _table(places, len(size))
    there = _table([holdings.get(worker, frozenset()) for worker in workers], len(size))
    # Bytes wanted, minus those that are there already.
    missing = (wanted @ size)[:, None] - (wanted * size) @ there.T
    others = np.array(before)[:, None] != np.array(workers)[None, :] if len(before) else 0.0
    rows, columns = linear_sum_assignment(missing + others / (len(places) + 1))
    chosen = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return tuple(workers[chosen[place]] for place in range(len(places)))


def seated(plan: Plan, workers: Sequence[int], holdings: Holdings, profile: Profile) -> Plan:
    """``plan`` with its workers replaced by those of ``workers`` that lack the fewest bytes."""
    wanted = parts(plan)
    before = sorted(wanted)
    places = [wanted[worker] for worker in before]
    names = dict(zip(before, seat(places, workers, holdings, profile, before), strict=True))

    def named(stage: Stage) -> Stage:
        return Stage(stage.layers, names[stage.worker])

    return replace(
        plan,
        pipelines=tuple(
            Pipeline(tuple(map(named, pipeline.stages)), pipeline.micro_batches)
            for pipeline in plan.pipelines
        ),
        routes=tuple(replace(route, worker=names[route.worker]) for route in plan.routes),
        shadows=tuple(map(named, plan.shadows)),
    )


def moves(plan: Plan, holdings: Holdings, profile: Profile) -> Rounds:
    """What ``plan`` lacks, sent by those of ``holdings`` who have it, in rounds.

    Within a round nobody sends twice or receives twice; one may send while it receives. Whoever
    is furthest from having everything goes first, its rarest layer first, from the holder that has
    sent least.

    Raises:
        ValueError: nobody holds a layer that is missing.
    """
    size = [state_bytes(layer) for layer in profile.layers]
    missing = {
        worker: set(layers - holdings.get(worker, frozenset()))
        for worker, layers in parts(plan).items()
    }
    holders: dict[int, set[int]] = {}
    for worker, layers in holdings.items():
        for layer in layers:
            holders.setdefault(layer, set()).add(worker)
    for worker, lacks in missing.items():
        if nowhere := sorted(lacks - holders.keys()):
            raise ValueError(f"worker {worker} needs layers {nowhere}, and nobody holds them")
    left = {w: sum(size[layer] for layer in lacks) for w, lacks in missing.items() if lacks}
    sent: Counter[int] = Counter()
    rounds = []
    while left:
        round_: list[Move] = []
        busy: set[int] = set()
        for target in sorted(left, key=lambda worker: (-left[worker], worker)):
            for layer in sorted(missing[target], key=lambda k: (len(holders[k]), -size[k], k)):
                source = _sender(holders[layer], busy, sent)
                if source is not None:
                    round_.append(Move(layer, source, target, size[layer]))
                    busy.add(source)
                    sent[source] += size[layer]
                    break
        for move in round_:
            missing[move.target].remove(move.layer)
            holders[move.layer].add(move.target)
            left[move.target] -= move.size
            if not missing[move.target]:
                del left[move.target]
        rounds.append(tuple(round_))
    return tuple(rounds)


def _sender(holders: set[int], busy: set[int], sent: Mapping[int, int]) -> int | None:
    """The holder that is free in this round and has sent least; None if all are busy."""
    return min(holders - busy, key=lambda worker: (sent[worker], worker), default=None)


def seconds(rounds: Rounds, profile: Profile) -> float:
    """Predicted seconds of ``rounds``: each one takes as long as its largest move."""
    return sum(max(profile.link.seconds(move.size) for move in round_) for round_ in rounds)


def _table(sets: Sequence[frozenset[int]], columns: int) -> np.ndarray[tuple[int, int]]:
    table = np.zeros((len(sets), columns))
    for row, members in enumerate(sets):
        table[row, list(members)] = 1.0
    return table
