"""What could be moved or computed again under a budget, and in which order it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ithaca.swap.columns import Columns, Ints
from ithaca.swap.trace import Recipe

# Copies below this cost more in latency and bookkeeping than they free; they come last.
SMALL_BYTES = 64 * 1024
# A copy hides behind the computation only if the window is this many times as long as both ways.
HIDES = 2.0


@dataclass(frozen=True)
class Candidates:
    """Orders of preference, the best first; none of them looks at a budget.

    Args:
        columns: of the trace.
        swaps: storages that a tier has room for: dear to compute again first, then those that
            are away longest. So the link is spent where it saves most.
        tier: [n] where each would go, an index into the links; -1 if nowhere.
        cheap: cheap replays, seconds per byte ascending.
        blocks: block replays that do not overlap, seconds per byte ascending, then as ``swaps``.
        whole: block replays that do not overlap, those that free most first.
    """

    columns: Columns
    swaps: Ints
    tier: Ints
    cheap: tuple[int, ...]
    blocks: tuple[int, ...]
    whole: tuple[int, ...]

    @classmethod
    def of(cls, columns: Columns) -> Candidates:
        """The candidates of a trace."""
        replays = columns.trace.replays
        freed = [_freed(columns, replay.outputs) for replay in replays]
        rate = [
            replay.seconds / size if size else float("inf")
            for replay, size in zip(replays, freed, strict=True)
        ]
        window = [
            max((float(columns.window_s[index]) for index in replay.outputs), default=0.0)
            for replay in replays
        ]
        useful = [which for which, size in enumerate(freed) if size]
        cheap = [which for which in useful if replays[which].recipe is Recipe.CHEAP]
        block = [which for which in useful if replays[which].recipe is Recipe.BLOCK]
        cheap.sort(key=lambda k: (rate[k], k))
        outputs = {k: frozenset(replays[k].outputs) for k in block}
        order = _swap_order(columns)
        tier = tiers_of(columns, order)
        return cls(
            columns,
            order[tier[order] >= 0],
            tier,
            tuple(cheap),
            _apart(sorted(block, key=lambda k: (_grade(rate[k]), -window[k], k)), outputs),
            _apart(sorted(block, key=lambda k: (-freed[k], k)), outputs),
        )

    def longest_first(self) -> Candidates:
        """The same with the swaps in order of their windows alone, whatever a replay would cost."""
        order = np.lexsort((self.swaps, -self.columns.window_s[self.swaps]))
        return replace(self, swaps=self.swaps[order])

    def largest_first(self) -> Candidates:
        """The same with the swaps in order of their bytes, then of their windows."""
        nbytes, window = self.columns.nbytes[self.swaps], self.columns.window_s[self.swaps]
        return replace(self, swaps=self.swaps[np.lexsort((self.swaps, -window, -nbytes))])

    def relevant(self, excess: NDArray[np.bool_]) -> Candidates:
        """Those that can be away where ``excess`` [N] says that there is too much."""
        columns = self.columns
        before = np.concatenate([[0], np.cumsum(excess)])
        here = before[np.maximum(columns.first_use, columns.released)] - before[columns.released]
        late = before[columns.first_use] + before[-1] - before[columns.released]
        helps = columns.movable & (np.where(columns.state, late, here) > 0)

        def kept(which: Iterable[int]) -> tuple[int, ...]:
            replays = columns.trace.replays
            return tuple(k for k in which if helps[list(replays[k].outputs)].any())

        return replace(
            self,
            swaps=self.swaps[helps[self.swaps]],
            cheap=kept(self.cheap),
            blocks=kept(self.blocks),
            whole=kept(self.whole),
        )


def shortest(last: int, fits: Callable[[int], bool], low: int = 0) -> int:
    """The shortest prefix, ``low`` to ``last``, that ``fits``; ``last`` if none does.

    A longer one is taken to fit when a shorter one does. Fastest when ``low`` is a good guess.
    """
    high, stride = low, 1
    while high < last and not fits(high):
        low, high, stride = high + 1, min(last, high + stride), 2 * stride
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _freed(columns: Columns, outputs: tuple[int, ...]) -> int:
    mine = list(outputs)
    return int(columns.nbytes[mine][columns.movable[mine]].sum())


def _grade(rate: float) -> int:
    """Rates within a factor of four are alike: measured times are not better than that."""
    return 1000 if rate == float("inf") else int(np.floor(np.log2(max(rate, 1e-30)) / 2))


def _swap_order(columns: Columns) -> Ints:
    trace = columns.trace
    n = len(columns.nbytes)
    if not trace.links:
        return np.zeros(0, np.int64)
    rate = np.full(n, np.inf)
    for replay in trace.replays:
        mine = list(replay.outputs)
        rate[mine] = np.minimum(
            rate[mine], replay.seconds / max(1, int(columns.nbytes[mine].sum()))
        )
    grade = np.array([_grade(part) for part in rate.tolist()], np.int64)
    first = trace.links[0]
    both = 1 / first.out_bytes_per_s + 1 / first.in_bytes_per_s
    hides = HIDES * (2 * first.latency_s + columns.nbytes * both)
    exposed = columns.window_s < hides
    small = columns.nbytes < SMALL_BYTES
    order = np.lexsort((np.arange(n), -columns.window_s, -grade, exposed, small))
    return order[columns.movable[order] & (columns.nbytes[order] > 0)]


def tiers_of(columns: Columns, order: Ints) -> Ints:
    """The first link with room for each storage, in ``order``; -1 for all others."""
    tier = np.full(len(columns.nbytes), -1, np.int64)
    starts = np.where(columns.state, 0, columns.ready)
    ends = np.where(columns.state, len(columns.base), columns.first_use)
    for position, link in enumerate(columns.trace.links):
        todo = order[tier[order] < 0]
        total = columns.held(starts[todo], ends[todo], columns.nbytes[todo]).max(initial=0)
        if link.capacity_bytes is None or total <= link.capacity_bytes:
            tier[todo] = position
            break
        room = np.full(len(columns.base), link.capacity_bytes, np.int64)
        for index in todo.tolist():
            part = room[starts[index] : ends[index]]
            if not len(part) or part.min() >= columns.nbytes[index]:
                part -= columns.nbytes[index]
                tier[index] = position
    return tier


def _apart(order: list[int], outputs: dict[int, frozenset[int]]) -> tuple[int, ...]:
    """Those of ``order`` that share no output with an earlier one."""
    taken: set[int] = set()
    kept = []
    for which in order:
        if taken.isdisjoint(outputs[which]):
            taken |= outputs[which]
            kept.append(which)
    return tuple(kept)
