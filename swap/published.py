"""The published swap policy, from its description, as a baseline.

SmartSwap (arXiv 2509.11076, v2; MindSpeed ``--smart-swap``), first version of its score. Facts
followed: stages are equal slices of the operators of a phase and micro-batch; the step time is
spread evenly over operators; candidates are large storages between their last use in the forward
and their first in the backward, and optimizer state; score = normalised count of operators above
the target that it covers + 2 x normalised cube root of its size; the worst peak is treated first,
by candidates that fit a simple simulation of the link, or by the best one if none does; memory of
a swap-out is released four stages after its simulated end. It knows no recompute.

Where it differs: speeds are the measured ones of the trace unless given (the published constant is
25.6e9 bytes a second), and what a trace calls ``state`` leaves at the end of a step instead of the
start of the next; ``paged`` state leaves there, as published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ithaca.swap.columns import Columns, Ints
from ithaca.swap.identity import Phase
from ithaca.swap.model import forecast
from ithaca.swap.plan import Plan
from ithaca.swap.schedule import KEEP, SWAP, Choice, Schedule
from ithaca.swap.trace import Trace

PUBLISHED_BYTES_PER_S = 25.6e9


@dataclass(frozen=True)
class Published:
    """The policy's constants, as published.

    Args:
        smallest_bytes: storages below are left alone.
        layers: attention layers of the model on this rank; a phase has (10 // layers + 1) x
            layers slices.
        reserve_bytes: kept free of the budget ("redundant memory"; 2 GiB there).
        release_stages: stages from the simulated end of a swap-out to the release.
        bytes_per_s: of the link, each way; ``None`` takes the trace's slower direction.
    """

    smallest_bytes: int = 20 * 10**6
    layers: int = 1
    reserve_bytes: int = 0
    release_stages: int = 4
    bytes_per_s: float | None = None

    def decide(self, trace: Trace, budget_bytes: int) -> Plan:
        """Its plan. The peak may stay above the budget: the policy does not promise that."""
        columns = Columns.of(trace)
        schedule = Schedule(Choice.keep(columns), columns.released, columns.first_use)
        if trace.links:
            schedule = _Rounds(self, columns, budget_bytes - self.reserve_bytes).run()
        result = forecast(schedule)
        reasons = [
            "chosen" if action == SWAP else "left alone" for action in schedule.choice.action
        ]
        return Plan(
            sequence=trace.sequence,
            budget_bytes=budget_bytes,
            peak_bytes=result.peak_bytes,
            step_s=result.step_s,
            stall_s=result.stall_s,
            recompute_s=result.recompute_s,
            decisions=schedule.decisions(reasons),
        )


def stages_of(trace: Trace, layers: int) -> list[int]:
    """[N] the stage of each point: phase and micro-batch, cut into slices of equal length."""
    groups: list[list[int]] = []
    before: tuple[Phase, int] | None = None
    for segment in trace.segments:
        here = (segment.key.phase, segment.key.slot)
        if here != before:
            groups.append([])
            before = here
        groups[-1] += range(segment.first, segment.last)
    slices = (10 // layers + 1) * layers
    stage: list[int] = []
    first = 0
    for group in groups:
        count = min(slices, len(group)) if group else 0
        stage += [first + position * count // len(group) for position in range(len(group))]
        first += count
    return stage


class _Rounds:
    """One plan in the making."""

    def __init__(self, settings: Published, columns: Columns, target_bytes: int) -> None:
        trace = columns.trace
        self._settings, self._columns = settings, columns
        self._stage = stages_of(trace, settings.layers)
        count = self._stage[-1] + 1
        operators = np.bincount(self._stage, minlength=count)
        self._left = (operators * (columns.clock[-1] / len(self._stage))).tolist()
        self._first = np.searchsorted(self._stage, np.arange(count + 1)).tolist()
        link = trace.links[0]
        self._speed = settings.bytes_per_s or min(link.out_bytes_per_s, link.in_bytes_per_s)
        self._excess = np.maximum(columns.keep_all() - target_bytes, 0)
        for segment in trace.segments:
            if segment.key.phase is Phase.OPTIMIZER:
                self._excess[segment.first : segment.last] = 0
        self._action = np.zeros(len(columns.nbytes), np.int8)
        self._free, self._back = columns.released.copy(), columns.first_use.copy()

    def run(self) -> Schedule:
        """Treats the worst peak until none is left, or nobody can help."""
        columns = self._columns
        large = columns.movable & (columns.nbytes >= self._settings.smallest_bytes)
        todo = set(np.flatnonzero(large).tolist())
        while todo and self._excess.max(initial=0) > 0:
            peak = int(self._excess.argmax())
            helping = [index for index in self._ranked(todo) if self._covers(index, peak)]
            if not helping:
                # Nobody covers it: it stays, and the others are treated.
                self._excess[peak] = 0
                continue
            fitting = [index for index in helping if self._try(index)]
            for index in fitting:
                if self._excess[peak] <= 0:
                    break
                if self._try(index):
                    self._accept(index)
                    todo.discard(index)
            if not fitting:
                self._accept(helping[0])
                todo.discard(helping[0])
        zeros = np.zeros(len(columns.nbytes), np.int64)
        return Schedule(Choice(columns, self._action, zeros, zeros), self._free, self._back)

    def _window(self, index: int) -> tuple[int, int]:
        columns = self._columns
        if columns.state[index]:
            return 0, int(columns.first_use[index])
        return int(columns.released[index]), int(columns.first_use[index])

    def _covers(self, index: int, point: int) -> bool:
        low, high = self._window(index)
        return low <= point < high

    def _ranked(self, todo: set[int]) -> list[int]:
        above = np.concatenate([[0], np.cumsum(self._excess > 0)])
        order = sorted(todo)
        windows = [self._window(index) for index in order]
        covered = np.array([above[high] - above[low] for low, high in windows], float)
        size = np.cbrt(self._columns.nbytes[order].astype(float))
        score = covered / max(1.0, covered.max()) + 2 * size / max(1.0, size.max())
        ranked: Ints = np.lexsort((order, -score))
        return [order[position] for position in ranked.tolist()]

    def _simulate(self, index: int) -> tuple[int, int, bool]:
        """Stage of the release, stage of the swap-in, and whether both fit in time."""
        low, high = self._window(index)
        took = float(self._columns.nbytes[index]) / self._speed
        last_use = max(0, low - 1)
        done, slack = self._stage[last_use], 0.0
        while done < len(self._left) - 1 and (slack := slack + self._left[done]) < took:
            done += 1
        begin = max(0, self._stage[min(high, len(self._stage) - 1)] - 1)
        latest, slack = begin, max(0.0, self._left[begin])
        while latest > 0 and slack < took:
            latest -= 1
            slack += max(0.0, self._left[latest])
        if self._columns.state[index]:
            return 0, latest, slack >= took
        release = min(done + self._settings.release_stages, latest)
        return release, latest, done < latest and slack >= took

    def _try(self, index: int) -> bool:
        return self._simulate(index)[2]

    def _accept(self, index: int) -> None:
        """Swaps it: takes the link's time from the stages, and its bytes from the peaks."""
        columns = self._columns
        release, begin, fits = self._simulate(index)
        low, high = self._window(index)
        took = float(columns.nbytes[index]) / self._speed
        if not fits:
            begin = max(0, self._stage[min(high, len(self._stage) - 1)] - 1)
        self._charge(self._stage[max(0, low - 1)], 1, took)
        self._charge(max(0, self._stage[min(high, len(self._stage) - 1)] - 1), -1, took)
        back = min(max(self._first[begin], 0), high)
        if columns.state[index]:
            free = len(columns.base)
            self._excess[:back] = np.maximum(self._excess[:back] - columns.nbytes[index], 0)
        else:
            free = max(low, self._first[min(release, begin)])
            back = max(back, free)
            part = self._excess[free:back]
            part[:] = np.maximum(part - columns.nbytes[index], 0)
        if back > high or (not columns.state[index] and free > back):
            return
        self._action[index] = SWAP if columns.state[index] or back > free else KEEP
        self._free[index], self._back[index] = free, back

    def _charge(self, stage: int, direction: int, seconds: float) -> None:
        """Takes ``seconds`` from the stages from ``stage`` on; what is left over is a delay."""
        while 0 <= stage < len(self._left) and seconds > 0:
            taken = min(max(self._left[stage], 0.0), seconds)
            self._left[stage] -= taken
            seconds -= taken
            stage += direction
