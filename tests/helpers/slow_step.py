"""A step under a plan, the slow way: point by point, reading the plan's text and the trace only."""

from __future__ import annotations

from dataclasses import dataclass, field

from ithaca.swap.plan import Action, Decision, Plan
from ithaca.swap.trace import Recipe, Replay, Role, Saved, Trace


@dataclass
class SlowStep:
    """What the reference says of a step."""

    step_s: float = 0.0
    stall_s: float = 0.0
    recompute_s: float = 0.0
    levels: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    point: int
    replay: Replay
    outputs: list[int]


def slow_step(trace: Trace, plan: Plan) -> SlowStep:
    """Walks over the points with a clock; every copy is looked up at every point."""
    lines = plan.decisions
    need, hold, runs = _needs(trace, lines)
    step = SlowStep()
    out_idle: dict[str, float] = {}
    in_idle: dict[str, float] = {}
    left: dict[int, float] = {}
    stored: dict[int, float] = {}
    back: dict[int, float] = {}
    links = {link.tier: link for link in trace.links}
    now = 0.0

    def copy(tier: str, nbytes: int, start: float, outward: bool) -> list[float]:
        link = links[tier]
        path = [links[link.through], link] if link.through else [link]
        ends = []
        idle = out_idle if outward else in_idle
        for hop in path if outward else path[::-1]:
            speed = hop.out_bytes_per_s if outward else hop.in_bytes_per_s
            start = max(start, idle.get(hop.tier, 0.0)) + hop.latency_s + nbytes / speed
            idle[hop.tier] = start
            ends.append(start)
        return ends

    def wait(until: float) -> None:
        nonlocal now
        step.stall_s += max(0.0, until - now)
        now = max(now, until)

    swapped = [i for i, line in enumerate(lines) if line.action is Action.SWAP]
    for point in range(len(trace.points) + 1):
        for i in swapped:
            saved = trace.saved[i]
            state = saved.role is Role.STATE
            if point == (saved.last_use if state else saved.last_forward_use) + 1:
                ends = copy(lines[i].tier or "", saved.nbytes, now, True)
                left[i], stored[i] = ends[0], ends[-1]
        for i in swapped:
            if point == trace.point(lines[i].free or trace.at(0)):
                wait(left[i])
        for i in swapped:
            if point == trace.point(lines[i].prefetch or trace.at(0)):
                start = max(now, stored.get(i, 0.0))
                back[i] = copy(lines[i].tier or "", trace.saved[i].nbytes, start, False)[-1]
        here = [run for run in runs if run.point == point]
        fed = {index for run in here for index in run.replay.inputs}
        for first in (True, False):
            for i in swapped:
                if point == need[i] and (i in fed) is first:
                    wait(back[i])
            if first:
                for run in here:
                    now += run.replay.seconds
                    step.recompute_s += run.replay.seconds
        if point < len(trace.points):
            step.levels.append(_level(trace, lines, need, hold, runs, point))
            now += trace.points[point].seconds
    step.step_s = now
    return step


def _needs(trace: Trace, lines: tuple[Decision, ...]) -> tuple[list[int], list[int], list[_Run]]:
    end = len(trace.points)
    need = [saved.first_backward_use for saved in trace.saved]
    hold = [end if s.role is Role.STATE else s.freed_at for s in trace.saved]
    used = [r for r in trace.replays if any(line.replay == r.name for line in lines)]
    changed = True
    while changed:  # until nothing is needed earlier than it was thought
        changed = False
        for replay in used:
            outputs = [i for i in replay.outputs if lines[i].replay == replay.name]
            point = min(need[i] for i in outputs)
            for i in (*outputs, *replay.inputs):
                if need[i] > point:
                    need[i], changed = point, True
    runs: list[_Run] = []
    for replay in sorted(used, key=lambda r: min(r.outputs)):
        outputs = [i for i in replay.outputs if lines[i].replay == replay.name]
        runs.append(_Run(need[outputs[0]], replay, outputs))
        for i in replay.inputs:
            hold[i] = max(hold[i], need[outputs[0]] + 1)
    return need, hold, runs


def _level(
    trace: Trace,
    lines: tuple[Decision, ...],
    need: list[int],
    hold: list[int],
    runs: list[_Run],
    point: int,
) -> int:
    total = 0
    for i, (saved, line) in enumerate(zip(trace.saved, lines, strict=True)):
        total += saved.nbytes * _there(trace, saved, line, need[i], hold[i], point)
    at = trace.points[point]
    top = at.base_bytes + at.workspace_bytes
    for run in runs:
        if run.point == point:
            beside = _beside(trace, run)
            top = max(top, at.base_bytes + run.replay.workspace_bytes + beside)
    return total + top


def _there(trace: Trace, saved: Saved, line: Decision, need: int, hold: int, point: int) -> bool:
    born = 0 if saved.role is Role.STATE else saved.produced_at
    if line.action is Action.KEEP:
        return born <= point < hold
    free = trace.point(line.free or trace.at(0))
    back = need if line.prefetch is None else trace.point(line.prefetch)
    if saved.role is Role.STATE:
        return back <= point < free
    return born <= point < free or back <= point < hold


def _beside(trace: Trace, run: _Run) -> int:
    """What a block holds at most beyond its wanted outputs, made again one point at a time."""
    if run.replay.recipe is Recipe.CHEAP:
        return 0
    wanted = sum(trace.saved[i].nbytes for i in run.outputs)
    most = 0
    for point in range(len(trace.points)):
        total = 0
        for i in run.replay.outputs:
            saved = trace.saved[i]
            end = saved.first_backward_use if saved.released_at is None else saved.released_at
            if saved.produced_at <= point and (i in run.outputs or point < end):
                total += saved.nbytes
        most = max(most, total)
    return most - wanted
