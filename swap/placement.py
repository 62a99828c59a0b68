"""Where in the step each copy has to be finished and may begin, so that the budget holds.

Outwards: first in, first out, each as soon as it can; where the budget leaves no room for bytes
that are still on their way, the step has to wait for the oldest of them. Inwards: as late as the
link allows with a margin, so that they take room for the shortest time; later where there is none.
Both are one sweep over the points.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush

import numpy as np

from ithaca.swap.columns import Ints
from ithaca.swap.model import Queue
from ithaca.swap.schedule import RECOMPUTE, SWAP, Choice, Schedule

# A read starts as if the link were slower by this factor: times are medians, not promises.
MARGIN = 1.1


def place(choice: Choice, budget_bytes: int) -> Schedule | None:
    """The places for ``choice``; ``None`` if it cannot be held in the budget at any speed."""
    room = budget_bytes - choice.floor
    if room.min(initial=0) < 0:
        return None
    columns, needs = choice.columns, choice.needs
    free, back = columns.released.copy(), needs.need.copy()
    swapped = np.flatnonzero(choice.action == SWAP)
    if len(swapped):
        clock = columns.clock.copy()
        for run in needs.runs:
            clock[run.point :] += columns.trace.replays[run.replay].seconds
        times = clock.tolist()
        _outward(choice, room, times, free, swapped)
        # What is still on its way takes its bytes from the release to where it is freed.
        ways = columns.released[swapped], np.maximum(free, columns.released)[swapped]
        room -= columns.held(*ways, columns.nbytes[swapped])
        _inward(choice, room, times, free, back, swapped)
    free = np.where(choice.action == RECOMPUTE, columns.released, free)
    return Schedule(choice, free, back)


def _outward(choice: Choice, room: Ints, times: list[float], free: Ints, swapped: Ints) -> None:
    """Fills ``free``, and moves ``times`` by the waits that are found."""
    columns = choice.columns
    last = len(columns.base)
    ready = _by_point(columns.ready, swapped, last)
    released = _by_point(columns.released, swapped, last)
    latest = np.where(columns.state, last, choice.needs.need)
    ending = _by_point(latest, swapped, last)
    sizes, tiers, rooms = columns.nbytes.tolist(), choice.tier.tolist(), [*room.tolist(), 0]
    queue = Queue(columns.trace.links, outward=True)
    done: dict[int, float] = {}
    pending: list[tuple[float, int]] = []  # released, still on their way; the first to arrive first
    left: set[int] = set()
    on_the_way, shift = 0, 0.0

    def leave(index: int, point: int) -> None:
        nonlocal on_the_way
        left.add(index)
        free[index] = point
        on_the_way -= sizes[index]

    for point in range(last + 1):
        now = times[point] = times[point] + shift
        for index in ready.get(point, ()):
            done[index] = queue.copy(tiers[index], sizes[index], now)[0]
        for index in released.get(point, ()):
            heappush(pending, (done[index], index))
            on_the_way += sizes[index]
        for index in ending.get(point, ()):
            if index not in left:
                leave(index, point)
        while pending and (
            pending[0][0] <= now or pending[0][1] in left or on_the_way > rooms[point]
        ):
            arrived, index = heappop(pending)
            if index in left:
                continue
            if arrived > now:
                shift += arrived - now
                now = times[point] = arrived
            leave(index, point)


def _by_point(points: Ints, which: Ints, last: int) -> dict[int, list[int]]:
    """The storages of ``which`` by their point in ``points``, each list ascending."""
    found: dict[int, list[int]] = {}
    for index, point in zip(which.tolist(), points[which].tolist(), strict=True):
        found.setdefault(min(point, last), []).append(index)
    return found


def _inward(
    choice: Choice, room: Ints, times: list[float], free: Ints, back: Ints, swapped: Ints
) -> None:
    """Fills ``back``, from the last read to the first; what is needed first has the first claim."""
    columns = choice.columns
    sizes, rooms = columns.nbytes.tolist(), room.tolist()
    starts = _latest_starts(choice, times, free, swapped)
    by_need = _by_point(choice.needs.need, swapped, len(columns.base))
    by_start: dict[int, list[int]] = {}
    for index, start in starts.items():
        by_start.setdefault(start, []).append(index)
    coming: dict[int, None] = {}  # on their way at the point, the latest need first
    total = 0
    for point in range(len(columns.base) - 1, -1, -1):
        for index in reversed(by_need.get(point + 1, ())):
            if starts[index] <= point:
                coming[index] = None
                total += sizes[index]
        while total > rooms[point]:
            index = next(iter(coming))
            del coming[index]
            total -= sizes[index]
            back[index] = point + 1
        for index in by_start.get(point, ()):
            if index in coming:
                del coming[index]
                total -= sizes[index]
                back[index] = point


def _latest_starts(choice: Choice, times: list[float], free: Ints, swapped: Ints) -> dict[int, int]:
    """The point at which each read has to start so that none is late, if there is room."""
    columns, links = choice.columns, choice.columns.trace.links
    by_name = {link.tier: link for link in links}
    per_byte, latency = [], []
    for link in links:
        way = by_name[link.through] if link.through else None
        per_byte.append(1 / link.in_bytes_per_s + (1 / way.in_bytes_per_s if way else 0.0))
        latency.append(link.latency_s + (way.latency_s if way else 0.0))
    needs, sizes = choice.needs.need.tolist(), columns.nbytes.tolist()
    lowest = np.where(columns.state, 0, free).tolist()
    tiers = choice.tier.tolist()
    latest = [float("inf")] * len(links)
    starts: dict[int, int] = {}
    order = swapped[np.argsort(choice.needs.need[swapped], kind="stable")][::-1]
    for index in order.tolist():
        tier, need = tiers[index], needs[index]
        took = latency[tier] + sizes[index] * per_byte[tier]
        latest[tier] = min(times[need], latest[tier]) - took * MARGIN
        start = bisect_right(times, latest[tier]) - 1
        starts[index] = min(max(start, lowest[index]), need)
    return starts
