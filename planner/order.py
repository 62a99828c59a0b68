"""The order of one pipeline's computes, arranged so that many of them can be timed at once.

The order is a function of stages, micro-batches and schedule alone, never of layers or times. It
is given by when the scheduler's clock starts each compute (``planner.timetable``): computes that
start together wait for earlier ones only, and a message crosses when its compute ends, ahead of
what starts then. For 1F1B and GPipe the starts are the textbook's; for the split backward they
are read from the Programs of a pipeline with one layer per stage. Tests compare all with Programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.program import Compute, Op
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.timetable import SLOTS

Indices = NDArray[np.int64]

OPS = (Op.F, Op.B, Op.I, Op.W)
F, B, W = 0, 1, 3
_SLOTS = np.array([SLOTS[op] for op in OPS])


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Computes that can be timed together; equally long arrays, each stage at most once.

    Attributes:
        stages, ops: whose they are and what, as index into ``OPS``.
        turns: the micro-batch whose gradient is added; -1 for F and I.
        sources: number of the message that is waited for; -1 for none.
        transfers: SENDs and RECVs that the worker starts between its last compute and this one.
        sends: positions in this level of those that send a message.
        messages: the numbers of these.
    """

    stages: Indices
    ops: Indices
    turns: Indices
    sources: Indices
    transfers: Indices
    sends: Indices
    messages: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """All computes of one step of a pipeline, in arrays over them, stage by stage, in order.

    Attributes:
        stages, micro_batches: of the pipeline.
        begins: where each stage's computes begin, and the end of all.
        ops: index into ``OPS``.
        turns: micro-batch, by its position in the pipeline.
        below, above: tensors that have crossed the cut below and above the stage before it starts.
        finish: per stage, when its last compute ends on the scheduler's clock.
        levels: the computes again, for timing.
        trailing: per stage, transfers behind its last compute.
    """

    stages: int
    micro_batches: int
    begins: Indices
    ops: Indices
    turns: Indices
    below: Indices
    above: Indices
    finish: tuple[int, ...]
    levels: tuple[Level, ...]
    trailing: Indices

    @property
    def num_messages(self) -> int:
        """An upper bound of the numbers of messages."""
        return 2 * self.stages * self.micro_batches


@lru_cache(maxsize=1024)
def order_of(split: tuple[bool, ...], micro_batches: int, schedule: Schedule) -> Order:
    """The order of a pipeline with ``len(split)`` stages; ``split[k]``: stage k has I and W."""
    if schedule is Schedule.ONE_F_ONE_B_SPLIT:
        starts = _read(split, micro_batches)
    else:
        starts = _textbook(len(split), micro_batches, gpipe=schedule is Schedule.GPIPE)
    return _arranged(len(split), micro_batches, *starts)


def finish_of(split: tuple[bool, ...], micro_batches: int, schedule: Schedule) -> tuple[int, ...]:
    """When each stage is done on the scheduler's clock, see ``planner.timetable``."""
    stages = len(split)
    if schedule is not Schedule.ONE_F_ONE_B_SPLIT:
        return tuple(3 * (micro_batches + stages - 1) - 2 * k for k in range(stages))
    timed = min(micro_batches, 4 * stages + 8)  # what comes later repeats, 3 slots each
    rest = 3 * (micro_batches - timed)
    return tuple(end + rest for end in order_of(split, timed, schedule).finish)


Starts = tuple[Indices, Indices, Indices, Indices]
"""Stage, op, micro-batch and start of every compute."""


def _textbook(stages: int, micro_batches: int, *, gpipe: bool) -> Starts:
    """1F1B and GPipe with backwards twice as long as forwards."""
    k, i = np.indices((stages, micro_batches))
    forward = k + i
    if gpipe:
        backward = micro_batches + stages - 1 + 2 * (stages - 1 - k) + 2 * i
    else:
        forward = np.where(i < stages - k, forward, k + 3 * i)
        backward = stages + 3 * i + 2 * (stages - 1 - k)
    ops = np.repeat([F, B], stages * micro_batches)
    twice = [np.concatenate([x.ravel(), x.ravel()]) for x in (k, i)]
    return twice[0], ops, twice[1], np.concatenate([forward.ravel(), backward.ravel()])


def _read(split: tuple[bool, ...], micro_batches: int) -> Starts:
    """What Programs say: the order; on the clock each compute starts as soon as it may."""
    stages = len(split)
    seats = tuple(Stage(Span(k, k + 1), k) for k in range(stages))
    plan = Plan((Pipeline(seats, tuple(range(micro_batches))),), Schedule.ONE_F_ONE_B_SPLIT)
    made = programs(plan, stages, split=split)
    todo = [[a for a in made[k].actions if isinstance(a, Compute)] for k in range(stages)]
    now, place = [0] * stages, [0] * stages
    ended: dict[tuple[bool, int, int], int] = {}
    rows: list[tuple[int, int, int, int]] = []
    awake = list(reversed(range(stages)))
    while awake:
        k = awake.pop()
        while place[k] < len(todo[k]):
            action = todo[k][place[k]]
            op, forward = action.op, action.op is Op.F
            before = 0 if op is Op.W or k == (0 if forward else stages - 1) else None
            if before is None:
                before = ended.get((forward, k - 1 if forward else k + 1, action.micro_batch))
                if before is None:
                    break
            start = max(now[k], before)
            now[k] = start + SLOTS[op]
            rows.append((k, OPS.index(op), action.micro_batch, start))
            place[k] += 1
            other = k + 1 if forward else k - 1
            if op is not Op.W and 0 <= other < stages:
                ended[forward, k, action.micro_batch] = now[k]
                awake.append(other)
    columns = np.array(rows).T
    return columns[0], columns[1], columns[2], columns[3]


def _arranged(
    stages: int, micro_batches: int, k: Indices, op: Indices, turn: Indices, start: Indices
) -> Order:
    rank = np.lexsort((start, k))
    k, op, turn, start = k[rank], op[rank], turn[rank], start[rank]
    begins = np.searchsorted(k, np.arange(stages + 1))
    end = start + _SLOTS[op]
    forward = op == F
    sends = np.where(forward, k < stages - 1, (op != W) & (k > 0))
    crossed = [
        np.sort(end[sends & np.where(forward, k == cut, k == cut + 1)]) for cut in range(-1, stages)
    ]
    below = _until(start, begins, crossed[:-1])
    above = _until(start, begins, crossed[1:])
    both = below + above
    transfers = np.diff(both, prepend=0)
    transfers[begins[:-1]] = both[begins[:-1]]
    all_transfers = np.array([len(low) + len(high) for low, high in pairwise(crossed)])
    return Order(
        stages,
        micro_batches,
        begins,
        op,
        turn,
        below,
        above,
        tuple(np.maximum.reduceat(end, begins[:-1]).tolist()),
        _levels(stages, micro_batches, k, op, turn, start, transfers, sends),
        all_transfers - both[begins[1:] - 1],
    )


def _until(start: Indices, begins: Indices, crossed: Sequence[Indices]) -> Indices:
    """How many messages have crossed a cut of each stage when its computes start."""
    own = zip(np.split(start, begins[1:-1]), crossed, strict=True)
    return np.concatenate([np.searchsorted(ends, at, side="right") for at, ends in own])


def _levels(
    stages: int,
    micro_batches: int,
    k: Indices,
    op: Indices,
    turn: Indices,
    start: Indices,
    transfers: Indices,
    sends: Indices,
) -> tuple[Level, ...]:
    forward = op == F
    needs = np.where(forward, k > 0, (op != W) & (k < stages - 1))
    # A message is named by its direction, its sender and its micro-batch.
    name = (k + stages * ~forward) * micro_batches + turn
    source = np.where(needs, name + np.where(forward, -micro_batches, micro_batches), -1)
    adds = np.where((op == B) | (op == W), turn, -1)
    rank = np.argsort(start, kind="stable")
    levels = []
    for here in np.split(rank, np.flatnonzero(np.diff(start[rank])) + 1):
        sending = np.flatnonzero(sends[here])
        own = k[here], op[here], adds[here], source[here], transfers[here]
        levels.append(Level(*own, sending, name[here][sending]))
    return tuple(levels)
