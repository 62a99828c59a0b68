"""Where in the step each copy has to be finished and may begin, so that the budget holds.

Outwards: first in, first out, each as soon as it can; where the budget leaves no room for bytes
that are still on their way, the step has to wait for the oldest of them. Inwards: as late as the
link allows with a margin, so that they take room for the shortest time; later where there is none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from ithaca.swap.columns import Floats, Ints
from ithaca.swap.model import Queue
from ithaca.swap.schedule import RECOMPUTE, SWAP, Choice, Schedule

# A read starts as if the link were slower by this factor: times are medians, not promises.
MARGIN = 1.1


def place(choice: Choice, budget_bytes: int) -> Schedule | None:
    """The places for ``choice``; ``None`` if it cannot be held in the budget at any speed."""
    room = budget_bytes - choice.floor()
    if room.min(initial=0) < 0:
        return None
    columns, needs = choice.columns, choice.needs
    free, back = columns.released.copy(), needs.need.copy()
    swapped = np.flatnonzero(choice.action == SWAP)
    if len(swapped):
        clock = columns.clock.copy()
        for run in needs.runs:
            clock[run.point :] += columns.trace.replays[run.replay].seconds
        _Outward(choice, room, clock, free).place(swapped)
        _inward(choice, room, clock, free, back, swapped)
    free = np.where(choice.action == RECOMPUTE, columns.released, free)
    return Schedule(choice, free, back)


@dataclass
class _Outward:
    """Gives every write the point at which it is finished; takes the room that it needs till then.

    ``clock`` is moved by the waits that are found, ``free`` is filled.
    """

    choice: Choice
    room: Ints
    clock: Floats
    free: Ints

    def place(self, swapped: Ints) -> None:
        columns = self.choice.columns
        queue = Queue(columns.trace.links, outward=True)
        released, need = columns.released.tolist(), _latest_free(self.choice).tolist()
        times = self.clock.tolist()
        pending: list[tuple[int, float]] = []
        order = swapped[np.argsort(columns.ready[swapped], kind="stable")]
        for index in order.tolist():
            nbytes = int(columns.nbytes[index])
            now = times[columns.ready[index]]
            done, _ = queue.copy(int(self.choice.tier[index]), nbytes, now)
            low, high = released[index], need[index]
            waited = False
            while True:
                end = min(max(low, bisect_left(times, done)), high)
                full = self._first_full(low, end, nbytes)
                if full is None:
                    break
                waited = True
                if not self._wait_for_older(pending, full, released):
                    self.clock[full:] += max(0.0, done - self.clock[full])
                    end = full
                    break
                times = self.clock.tolist()
            if waited:
                times = self.clock.tolist()
            self.room[low:end] -= nbytes
            self.free[index] = end
            if end > low:
                pending.append((index, done))

    def _first_full(self, low: int, end: int, nbytes: int) -> int | None:
        part = self.room[low:end]
        if not len(part) or part.min() >= nbytes:
            return None
        return low + int((part < nbytes).argmax())

    def _wait_for_older(
        self, pending: list[tuple[int, float]], point: int, released: list[int]
    ) -> bool:
        """Lets the oldest write that still takes room at ``point`` be finished there."""
        for position, (index, done) in enumerate(pending):
            if self.free[index] > point >= released[index]:
                self.clock[point:] += max(0.0, done - self.clock[point])
                self.room[point : self.free[index]] += self.choice.columns.nbytes[index]
                self.free[index] = point
                del pending[position]
                return True
        return False


def _latest_free(choice: Choice) -> Ints:
    """[n] where a write has to be over at the latest: at the use, or at the end of the step."""
    columns = choice.columns
    need = np.maximum(choice.needs.need, columns.released)
    return np.where(columns.state, len(columns.base), need)


def _inward(
    choice: Choice, room: Ints, clock: Floats, free: Ints, back: Ints, swapped: Ints
) -> None:
    """Fills ``back``, from the last read to the first."""
    columns, times = choice.columns, clock.tolist()
    need = choice.needs.need
    lowest = np.where(columns.state, 0, free).tolist()
    links = columns.trace.links
    by_name = {link.tier: link for link in links}
    latest = [float("inf")] * len(links)
    order = swapped[np.argsort(need[swapped], kind="stable")][::-1]
    for index in order.tolist():
        tier, nbytes = int(choice.tier[index]), int(columns.nbytes[index])
        link = links[tier]
        took = link.latency_s + nbytes / link.in_bytes_per_s
        if link.through:
            way = by_name[link.through]
            took += way.latency_s + nbytes / way.in_bytes_per_s
        until = int(need[index])
        latest[tier] = min(times[until], latest[tier]) - took * MARGIN
        start = bisect_right(times, latest[tier]) - 1
        start = min(max(start, lowest[index]), until)
        part = room[start:until]
        if len(part) and part.min() < nbytes:
            start = until - int((part < nbytes)[::-1].argmax())
        room[start:until] -= nbytes
        back[index] = start
