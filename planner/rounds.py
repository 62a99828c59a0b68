"""The order of reductions that share workers: a list schedule, so that they run side by side.

Where pipelines are cut differently a worker takes part in several reductions, and neighbouring ones
share a worker. In the order in which they become ready each would then wait for the one before it,
through the whole model. Taking always the one that could *start* first makes rounds of reductions
that do not share workers, as a colouring of the conflict graph does (arXiv 2508.21613 colours it
with DSATUR), and still lets those go first that are ready first.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers that are reduced together.

    Attributes:
        first, last: the layers, ``last`` excluded.
        ready: on the clock of ``planner.timetable``, when the last of its workers has computed.
        members: who takes part.
    """

    first: int
    last: int
    ready: float
    members: Sequence[Hashable]


def rounds(pieces: Iterable[Piece]) -> list[Piece]:
    """``pieces`` in the order in which all their members execute them.

    On the clock a reduction takes as long as it has layers: what it really takes depends on the
    links, and the order is to be a function of the plan. Whoever could start at the same time is
    taken from the last layer down, as their backwards end in that order.
    """
    waiting = [(piece.ready, -piece.first, piece) for piece in pieces]
    heapq.heapify(waiting)
    free: dict[Hashable, float] = {}
    order = []
    while waiting:
        known, turn, piece = heapq.heappop(waiting)
        start = max(piece.ready, max((free.get(m, 0.0) for m in piece.members), default=0.0))
        if start > known:  # somebody has become busy since
            heapq.heappush(waiting, (start, turn, piece))
            continue
        order.append(piece)
        end = start + piece.last - piece.first
        free.update(dict.fromkeys(piece.members, end))
    return order
