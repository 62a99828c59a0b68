"""The relaxed problem of the lower bound, solved by trying everything.

Storages are whole, copies are fluid. Time goes in ticks of one second in which the one link moves
one byte each way; bytes and seconds are whole numbers, so nothing is gained by half ticks. Shares
no code with the bound, and knows no linear programme.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from ithaca.swap.trace import Saved, Trace

KEEP, SWAP = -2, -1  # anything else is the number of a replay


@dataclass(frozen=True)
class _Task:
    """One assignment, as sums at the points 0..N.

    ``there``: bytes that may have been written; ``needed``: bytes that must have been read;
    ``room``: bytes for what was released and is not written yet, and for what was read early;
    ``pending``: bytes released; ``behind``: ticks of replays that can only run at or behind a
    point; ``before``: ticks of those that have to be over at a point.
    """

    there: list[int]
    needed: list[int]
    room: list[int]
    pending: list[int]
    behind: list[int]
    before: list[int]


def fewest_ticks(trace: Trace, budget: int, most: int = 60) -> int | None:
    """Ticks that a step takes beyond its operators, at least; ``None`` above ``most``.

    The trace has activations only, and at most one link of one byte a second each way.
    """
    tasks = [task for chosen in _assignments(trace) if (task := _task(trace, budget, chosen))]
    for ticks in range(most + 1):
        if any(_possible(trace, task, ticks) for task in tasks):
            return ticks
    return None


def _held(saved: Saved) -> bool:
    return saved.released_at is None or saved.released_at >= saved.first_backward_use


def _assignments(trace: Trace) -> list[tuple[int, ...]]:
    options = []
    for index, saved in enumerate(trace.saved):
        mine = [KEEP]
        if saved.nbytes and not _held(saved):
            mine += [SWAP] if trace.links else []
            mine += [k for k, replay in enumerate(trace.replays) if index in replay.outputs]
        options.append(mine)
    return list(product(*options))


def _task(trace: Trace, budget: int, chosen: tuple[int, ...]) -> _Task | None:
    last = len(trace.points)
    pairs = list(zip(trace.saved, chosen, strict=True))
    swapped = [saved for saved, what in pairs if what == SWAP]
    points = range(last + 1)
    room = []
    for j in range(last):
        level = trace.points[j].base_bytes + trace.points[j].workspace_bytes
        for saved, what in pairs:
            away = what != KEEP and (saved.released_at or 0) <= j < saved.first_backward_use
            level += saved.nbytes * (saved.produced_at <= j < saved.freed_at and not away)
        room.append(budget - level)
    if min(room) < 0:
        return None
    behind, before = _replays(trace, chosen)
    return _Task(
        there=[sum(s.nbytes for s in swapped if s.produced_at + 1 <= j) for j in points],
        needed=[sum(s.nbytes for s in swapped if s.first_backward_use <= j) for j in points],
        room=[*room, 10**9],
        pending=[sum(s.nbytes for s in swapped if (s.released_at or 0) <= j) for j in points],
        behind=behind,
        before=before,
    )


def _replays(trace: Trace, chosen: tuple[int, ...]) -> tuple[list[int], list[int]]:
    points = range(len(trace.points) + 1)
    first = [saved.first_backward_use for saved in trace.saved]
    need, changed = list(first), True
    while changed:
        changed = False
        for replay in trace.replays:
            point = min(need[i] for i in replay.outputs)
            for i in replay.inputs:
                if need[i] > point:
                    need[i], changed = point, True
    used = [trace.replays[k] for k in {what for what in chosen if what >= 0}]
    early = [(min(need[i] for i in replay.outputs), round(replay.seconds)) for replay in used]
    late = [(max(first[i] for i in replay.outputs), round(replay.seconds)) for replay in used]
    return (
        [sum(ticks for at, ticks in early if at >= j) for j in points],
        [sum(ticks for at, ticks in late if at <= j) for j in points],
    )


def _possible(trace: Trace, task: _Task, most: int) -> bool:
    """Whether a step with at most ``most`` extra ticks is possible.

    A state is (extra ticks so far, bytes read, extra ticks that the replays still ask for); for
    each, the most bytes that can have been written: more is never worse.
    """
    states = {(0, 0, 0): 0}
    for j in range(len(trace.points) + 1):
        gap = round(trace.points[j - 1].seconds) if j else 0
        after: dict[tuple[int, int, int], int] = {}
        for (extra, read, due), written in states.items():
            must = max(due, extra + task.behind[j])
            for new in range(max(extra, task.before[j]), most + 1):
                moved = gap + new - extra
                out = min(task.there[j], written + moved)
                # Bytes that are there although they were released, and bytes that came early.
                spare = task.room[j] - max(0, task.pending[j] - out)
                high = min(read + moved, out, task.needed[j] + spare)
                for now in range(max(read, task.needed[j]), high + 1):
                    key = (new, now, must)
                    after[key] = max(after.get(key, -1), out)
        states = after
    return any(
        extra >= must and written == task.there[-1]
        for (extra, _, must), written in states.items()
        if must <= most
    )
