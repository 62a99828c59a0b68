"""A step under a plan as a trace for Perfetto (https://ui.perfetto.dev) and Chrome's viewer.

One track has the modules as they ran when the step was observed, one for each action the time in
which tensors are away, and a counter the bytes that the plan keeps in memory. Times are
microseconds of the observed step without memory saving.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from ithaca.swap.identity import At
from ithaca.swap.plan import Action, Decision, Plan
from ithaca.swap.trace import Trace

Record = dict[str, Any]
_MODULES, _AWAY = 1, 10


def timeline(trace: Trace, plan: Plan) -> Record:
    """The trace as an object ready for JSON.

    Args:
        trace: of the observed step.
        plan: that was made for it; places that the trace does not have are left out.
    """
    clock = [0.0, *accumulate(point.seconds * 1e6 for point in trace.points)]
    return {
        "traceEvents": [
            *_named(0, None, "step"),
            *_named(_MODULES, "modules"),
            *_modules(trace, clock),
            *_absences(trace, plan, clock),
            *_levels(trace, plan, clock),
        ],
        "displayTimeUnit": "ms",
        "otherData": {"sequence": plan.sequence, "budget_bytes": plan.budget_bytes},
    }


def _named(track: int, name: str | None, process: str = "") -> Iterator[Record]:
    what, text = ("process_name", process) if name is None else ("thread_name", name)
    yield {"ph": "M", "pid": 1, "tid": track, "name": what, "args": {"name": text}}


def _slice(track: int, name: str, start: float, end: float, args: Record) -> Record:
    return {
        "ph": "X",
        "pid": 1,
        "tid": track,
        "name": name,
        "ts": round(start, 3),
        "dur": round(max(0.0, end - start), 3),
        "args": args,
    }


def _modules(trace: Trace, clock: list[float]) -> Iterator[Record]:
    for segment in trace.segments:
        start, end = clock[segment.first], clock[segment.last]
        points = segment.last - segment.first
        yield _slice(_MODULES, str(segment.key), start, end, {"points": points})


def _absence(trace: Trace, decision: Decision, uses: dict[str, int]) -> tuple[int, int] | None:
    def point(at: At | None) -> int | None:
        try:
            return None if at is None else trace.point(at)
        except KeyError:
            return None

    free, back = point(decision.free), point(decision.prefetch)
    if decision.action is Action.RECOMPUTE:
        back = uses.get(str(decision.identity))
    return None if free is None or back is None or back < free else (free, back)


def _absences(trace: Trace, plan: Plan, clock: list[float]) -> Iterator[Record]:
    """Every tensor that is away, on the first track of its action that is free."""
    uses = {str(saved.identity): saved.first_backward_use for saved in trace.saved}
    away = [
        (found, decision)
        for decision in plan.decisions
        if (found := _absence(trace, decision, uses)) is not None
    ]
    ends: dict[int, int] = {}
    for (free, back), decision in sorted(away, key=lambda pair: pair[0]):
        track = _AWAY
        while ends.get(track, -1) > free:
            track += 1
        if track not in ends:
            yield from _named(track, "away")
        ends[track] = back
        args = {
            "bytes": decision.nbytes,
            "action": decision.action.value,
            "to": decision.tier or decision.replay,
            "why": decision.reason,
        }
        yield _slice(track, str(decision.identity), clock[free], clock[back], args)


def _levels(trace: Trace, plan: Plan, clock: list[float]) -> Iterator[Record]:
    """Bytes at every point: what is alive, less what is away."""
    change = [0] * (len(trace.points) + 1)
    uses: dict[str, int] = {}
    for saved in trace.saved:
        change[saved.produced_at] += saved.nbytes
        change[saved.freed_at] -= saved.nbytes
        uses[str(saved.identity)] = saved.first_backward_use
    for decision in plan.decisions:
        if found := _absence(trace, decision, uses):
            change[found[0]] -= decision.nbytes
            change[found[1]] += decision.nbytes
    held = 0
    for index, point in enumerate(trace.points):
        held += change[index]
        yield {
            "ph": "C",
            "pid": 1,
            "name": "bytes",
            "ts": round(clock[index], 3),
            "args": {"held": held + point.base_bytes, "budget": plan.budget_bytes},
        }
