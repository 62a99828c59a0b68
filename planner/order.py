"""The order of one pipeline's computes, arranged so that many of them can be timed at once.

The order is a function of stages, micro-batches and schedule alone, never of layers or times: it
is taken from the Programs of a pipeline with one layer per stage. Computes are put into *levels*:
what a compute needs lies in earlier levels, and a level has at most one compute of each stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.program import Action, Compute, Op, Transfer
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.timetable import SLOTS

Indices = NDArray[np.intp]

CODES = {Op.F: 0, Op.B: 1, Op.I: 2, Op.W: 3}
"""Columns of the durations that :mod:`ithaca.planner.pace` reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Computes that can be timed together; equally long arrays.

    Attributes:
        stages: each at most once.
        codes: what they are, see ``CODES``.
        turns: the position of the gradient that B or W adds; -1 for F and I.
        sources: number of the message that is waited for; -1 for none.
        messages: number of the message that is sent behind it; -1 for none.
        transfers: SENDs and RECVs that the worker starts between its last compute and this one.
    """

    stages: Indices
    codes: Indices
    turns: Indices
    sources: Indices
    messages: Indices
    transfers: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """All computes of one step of a pipeline.

    Attributes:
        stages, micro_batches: of the pipeline.
        levels: in order.
        num_messages: over all cuts.
        trailing: per stage, transfers behind its last compute.
        actions: per stage, computes and transfers as its Program has them; layer k is stage k.
    """

    stages: int
    micro_batches: int
    levels: tuple[Level, ...]
    num_messages: int
    trailing: Indices
    actions: tuple[tuple[Action, ...], ...]


@lru_cache(maxsize=512)
def order_of(split: tuple[bool, ...], micro_batches: int, schedule: Schedule) -> Order:
    """The order of a pipeline with ``len(split)`` stages; ``split[k]``: stage k has I and W."""
    stages = len(split)
    seats = tuple(Stage(Span(k, k + 1), k) for k in range(stages))
    plan = Plan((Pipeline(seats, tuple(range(micro_batches))),), schedule)
    made = programs(plan, stages, split=split)
    actions = tuple(
        tuple(a for a in made[k].actions if isinstance(a, Compute | Transfer))
        for k in range(stages)
    )
    return _Sorter(actions, micro_batches).order()


def finish_of(split: tuple[bool, ...], micro_batches: int, schedule: Schedule) -> tuple[int, ...]:
    """When each stage is done on the scheduler's clock, see ``planner.timetable``."""
    stages = len(split)
    if schedule is not Schedule.ONE_F_ONE_B_SPLIT:
        return tuple(3 * (micro_batches + stages - 1) - 2 * k for k in range(stages))
    timed = min(micro_batches, 4 * stages + 8)  # what comes later repeats, 3 slots each
    rest = 3 * (micro_batches - timed)
    return tuple(end + rest for end in _finish(order_of(split, timed, schedule)))


@lru_cache(maxsize=512)
def _finish(order: Order) -> tuple[int, ...]:
    slots = np.array([SLOTS[op] for op in CODES])
    now = np.zeros(order.stages, dtype=np.intp)
    come = np.zeros(order.num_messages + 1, dtype=np.intp)
    for level in order.levels:
        now[level.stages] = np.maximum(now[level.stages], come[level.sources]) + slots[level.codes]
        sends = level.messages >= 0
        come[level.messages[sends]] = now[level.stages[sends]]
    return tuple(now.tolist())


class _Sorter:
    """Puts the computes of a pipeline into levels."""

    def __init__(self, actions: Sequence[Sequence[Action]], micro_batches: int) -> None:
        self._actions = actions
        self._micro_batches = micro_batches
        self._rows: list[list[tuple[int, ...]]] = []
        self._sent: dict[tuple[bool, int, int], tuple[int, int]] = {}  # to level and number
        self._next = [0] * len(actions)
        self._level = [0] * len(actions)
        self._transfers = [0] * len(actions)
        self._turn = [0] * len(actions)

    def order(self) -> Order:
        """The order; every message has been sent before it is waited for."""
        awake = list(reversed(range(len(self._actions))))
        while awake:
            stage = awake.pop()
            awake.extend(self._advance(stage))
        return Order(
            len(self._actions),
            self._micro_batches,
            tuple(
                Level(*(np.array(column, dtype=np.intp) for column in zip(*rows, strict=True)))
                for rows in self._rows
            ),
            len(self._sent),
            np.array(self._transfers, dtype=np.intp),
            tuple(map(tuple, self._actions)),
        )

    def _advance(self, stage: int) -> list[int]:
        """Place computes of ``stage`` until one has to wait; returns whom that wakes."""
        woken = set()
        actions = self._actions[stage]
        while self._next[stage] < len(actions):
            action = actions[self._next[stage]]
            if isinstance(action, Compute):
                other = self._place(stage, action)
                if other is None:
                    break
                woken.add(other)
            else:
                self._transfers[stage] += 1
            self._next[stage] += 1
        return sorted(woken - {stage})

    def _place(self, stage: int, action: Compute) -> int | None:
        """Give ``action`` a level; who gets its message (itself if none), None if it waits."""
        last, op = len(self._actions) - 1, action.op
        needs = (op is Op.F and stage > 0) or (op in (Op.B, Op.I) and stage < last)
        sends = (op is Op.F and stage < last) or (op in (Op.B, Op.I) and stage > 0)
        level, source = self._level[stage], -1
        if needs:
            sent = self._sent.get((op is Op.F, stage, action.micro_batch))
            if sent is None:
                return None
            level, source = max(level, sent[0] + 1), sent[1]
        other = stage
        message = -1
        if sends:
            other = stage + 1 if op is Op.F else stage - 1
            message = len(self._sent)
            self._sent[op is Op.F, other, action.micro_batch] = level, message
        turn = -1
        if op in (Op.B, Op.W):
            turn = self._turn[stage]
            self._turn[stage] += 1
        while len(self._rows) <= level:
            self._rows.append([])
        row = (stage, CODES[op], turn, source, message, self._transfers[stage])
        self._rows[level].append(row)
        self._transfers[stage] = 0
        self._level[stage] = level + 1
        return other
