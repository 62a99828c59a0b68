"""A trace as columns, for what runs through it often: the model, the policy, the bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ithaca.swap.trace import Role, Trace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Per point i of N, and per storage s of n; points are indices.

    Args:
        trace: where the columns come from.
        clock: [N + 1] seconds from the start of the step to each point, without memory saving.
        base: [N] bytes of what is no storage, without workspace.
        fixed: [N] the same with the workspace.
        nbytes: [n] bytes of each storage.
        produced: [n] 0 for a state.
        ready: [n] from when it can be written out: behind its last forward use; for a state
            behind its last use.
        released: [n] from when its bytes can be given up; for a state ``freed_at``.
        first_use: [n] first use in the backward, or in the optimizer.
        freed: [n] end of its life without memory saving; N for a state.
        state: [n] whether it is optimizer state.
        movable: [n] whether there is any point at which it may be away.
        window_s: [n] seconds for which it may be away; 0 if it is not movable.
    """

    trace: Trace
    clock: Floats
    base: Ints
    fixed: Ints
    nbytes: Ints
    produced: Ints
    ready: Ints
    released: Ints
    first_use: Ints
    freed: Ints
    state: NDArray[np.bool_]
    movable: NDArray[np.bool_]
    window_s: Floats

    @classmethod
    def of(cls, trace: Trace) -> Columns:
        """The columns of ``trace``."""
        points, saved = trace.points, trace.saved
        last = len(points)
        clock = np.zeros(last + 1)
        np.cumsum([point.seconds for point in points], out=clock[1:])
        base = np.array([point.base_bytes for point in points], np.int64)
        workspace = np.array([point.workspace_bytes for point in points], np.int64)
        state = np.array([part.role is Role.STATE for part in saved], bool)
        rows = np.array(
            [
                (0, part.last_use + 1, part.freed_at, part.first_backward_use, last)
                if part.role is Role.STATE
                else (
                    part.produced_at,
                    part.last_forward_use + 1,
                    part.first_backward_use if part.released_at is None else part.released_at,
                    part.first_backward_use,
                    part.freed_at,
                )
                for part in saved
            ],
            np.int64,
        ).reshape(-1, 5)
        produced, ready, released, first_use, freed = rows.T
        movable = state | (released < first_use)
        away = np.where(state, clock[-1], clock[first_use] - clock[released])
        return cls(
            trace=trace,
            clock=clock,
            base=base,
            fixed=base + workspace,
            nbytes=np.array([part.nbytes for part in saved], np.int64),
            produced=produced,
            ready=ready,
            released=released,
            first_use=first_use,
            freed=freed,
            state=state,
            movable=movable,
            window_s=np.where(movable, away, 0.0),
        )

    @cached_property
    def replay_rank(self) -> list[int]:
        """For each replay its place in the order in which readers come before what they read."""
        replays = self.trace.replays
        order = sorted(range(len(replays)), key=lambda k: (-min(replays[k].outputs), k))
        rank = [0] * len(replays)
        for position, k in enumerate(order):
            rank[k] = position
        return rank

    def keep_all(self) -> Ints:
        """[N] bytes at each point without memory saving."""
        return self.fixed + self.held(self.produced, self.freed, self.nbytes)

    def away_at(self, point: int) -> NDArray[np.bool_]:
        """[n] whether each storage could be away at ``point``."""
        behind, before = self.released <= point, point < self.first_use
        return self.movable & np.where(self.state, behind | before, behind & before)

    def held(self, starts: Ints, ends: Ints, nbytes: Ints) -> Ints:
        """[N] bytes at each point of things that are there in [start, end)."""
        size = len(self.base) + 1
        # Sums of whole numbers below 2**53 are exact in float64.
        change = np.bincount(starts, nbytes, size) - np.bincount(ends, nbytes, size)
        return np.cumsum(change[:-1]).astype(np.int64)
