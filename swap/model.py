"""What a step under a plan takes and holds: trace and plan run on a virtual clock.

The bytes at every point follow from the plan alone. The time: operators run one after another, as
long as they did without memory saving; replays run before the operator that needs them; each link
has one queue per direction, first in first out; operators wait for a write whose bytes have to
be free now, and for a read that they need. Copies and operators do not slow each other down: the
speeds in the trace are those measured under load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ithaca.swap.columns import Columns, Floats, Ints
from ithaca.swap.plan import Plan
from ithaca.swap.schedule import SWAP, Schedule
from ithaca.swap.trace import Link, Trace


@dataclass(frozen=True)
class Forecast:
    """A step as predicted.

    Args:
        step_s: seconds, from the first operator to the end of the last.
        stall_s: of these, waiting for copies.
        recompute_s: of these, replays.
        peak_bytes: in memory at most.
        levels: [N] bytes in memory at each point.
        waits: [n] seconds that operators waited for a copy of each storage.
        out_s: seconds that the busiest outward link was busy.
        in_s: seconds that the busiest inward link was busy.
    """

    step_s: float
    stall_s: float
    recompute_s: float
    peak_bytes: int
    levels: Ints
    waits: Floats
    out_s: float
    in_s: float


# What happens at a point, in this order; a write starts when the operator before has ended.
_WRITE, _FREE, _PREFETCH, _INPUT, _RUN, _USE = range(6)


class Queue:
    """One direction of all links: when a copy that is asked for now would be done.

    Args:
        links: of the trace.
        speeds: bytes a second of each, in this direction.
        outward: whether the tier on the way comes first.
    """

    def __init__(self, links: tuple[Link, ...], *, outward: bool) -> None:
        index = {link.tier: position for position, link in enumerate(links)}
        self._speeds = [link.out_bytes_per_s if outward else link.in_bytes_per_s for link in links]
        self._latency = [link.latency_s for link in links]
        hops = [
            (index[link.through], position) if link.through else (position,)
            for position, link in enumerate(links)
        ]
        self._hops = [path if outward else path[::-1] for path in hops]
        self._idle_at = [0.0] * len(links)
        self.busy_s = [0.0] * len(links)

    def copy(self, tier: int, nbytes: int, now: float) -> tuple[float, float]:
        """When the first hop and the last hop of a copy end that is asked for at ``now``."""
        first = 0.0
        for link in self._hops[tier]:
            took = self._latency[link] + nbytes / self._speeds[link]
            idle = self._idle_at[link]
            now = (idle if idle > now else now) + took
            self._idle_at[link] = now
            self.busy_s[link] += took
            first = first or now
        return first, now


def forecast(schedule: Schedule) -> Forecast:
    """The step that ``schedule`` makes."""
    columns, choice = schedule.choice.columns, schedule.choice
    trace = columns.trace
    outward, inward = Queue(trace.links, outward=True), Queue(trace.links, outward=False)
    clock, sizes, tiers = columns.clock.tolist(), columns.nbytes.tolist(), choice.tier.tolist()
    left = [0.0] * len(sizes)  # when the bytes have left the device
    there = [0.0] * len(sizes)  # when they are where they go
    back = [0.0] * len(sizes)
    waits = [0.0] * len(sizes)
    shift = stall = recompute = 0.0
    for point, kind, index in _events(schedule):
        now = clock[point] + shift
        until = now
        if kind == _WRITE:
            left[index], there[index] = outward.copy(tiers[index], sizes[index], now)
        elif kind == _FREE:
            until = left[index]
        elif kind == _PREFETCH:
            back[index] = inward.copy(tiers[index], sizes[index], max(now, there[index]))[1]
        elif kind == _RUN:
            seconds = trace.replays[choice.needs.runs[index].replay].seconds
            recompute += seconds
            shift += seconds
        else:
            until = back[index]
        if until > now:
            waits[index] += until - now
            stall += until - now
            shift += until - now
    levels = schedule.levels()
    return Forecast(
        step_s=clock[-1] + stall + recompute,
        stall_s=stall,
        recompute_s=recompute,
        peak_bytes=int(levels.max(initial=0)),
        levels=levels,
        waits=np.array(waits),
        out_s=max(outward.busy_s, default=0.0),
        in_s=max(inward.busy_s, default=0.0),
    )


def predict(trace: Trace, plan: Plan) -> Forecast:
    """The step of ``trace`` under ``plan``; ``ValueError`` if the plan is for another sequence."""
    if plan.sequence != trace.sequence:
        raise ValueError(f"the plan is for sequence {plan.sequence}, the trace is {trace.sequence}")
    return forecast(Schedule.read(Columns.of(trace), plan.decisions))


def _events(schedule: Schedule) -> list[tuple[int, int, int]]:
    """(point, kind, storage or run) of all that happens beside operators, in order."""
    choice = schedule.choice
    columns, needs = choice.columns, choice.needs
    swapped = np.flatnonzero(choice.action == SWAP)
    fed = {
        (index, run.point)
        for run in needs.runs
        for index in columns.trace.replays[run.replay].inputs
    }
    ready, free = columns.ready[swapped].tolist(), schedule.free[swapped].tolist()
    back, need = schedule.back[swapped].tolist(), needs.need[swapped].tolist()
    events: list[tuple[int, int, int]] = []
    for position, index in enumerate(swapped.tolist()):
        use = _INPUT if (index, need[position]) in fed else _USE
        events += [
            (ready[position], _WRITE, index),
            (free[position], _FREE, index),
            (back[position], _PREFETCH, index),
            (need[position], use, index),
        ]
    events += [(run.point, _RUN, index) for index, run in enumerate(needs.runs)]
    events.sort()
    return events
