"""Layers split anew over given workers: the whole front of (slowest stage, missing bytes)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.balance import Balancer, Duty
from ithaca.planner.plan import Schedule, Stage
from ithaca.planner.span import Span
from ithaca.recovery.cover import Chain
from ithaca.recovery.moves import state_bytes
from ithaca.recovery.strategy import Situation

Matrix = NDArray[np.float64]

SLACKS = (1.0, 1.1, 1.25, 1.5, np.inf)
"""How much slower than the fastest split a stage may be, to save bytes."""


class Resplitter:
    """Pipelines over workers in a given order; entry [i, j] of a matrix is layers i to j - 1."""

    def __init__(self, situation: Situation, schedule: Schedule) -> None:
        profile = situation.profile
        self._holdings = situation.there
        self._limit = situation.memory_limit_bytes
        self.balancer = Balancer(profile, schedule, exact=situation.exact)
        self._count = len(profile.layers)
        self._size = np.array([state_bytes(layer) for layer in profile.layers], dtype=float)
        self._empty = ~np.triu(np.ones((self._count + 1, self._count + 1), dtype=bool), k=1)

    def chains(self, workers: Sequence[int], duty: Duty) -> Iterator[Chain]:
        """Splits of all layers over ``workers``, one stage each, in their order.

        The first has the fastest slowest stage that fits into memory; each further one lacks fewer
        bytes than those before and has a slower one. None if nothing fits.
        """
        if len(workers) > self._count:
            return
        seconds = [self._allowed(duty, k) for k in range(len(workers))]
        fastest = float(_best(seconds, np.maximum)[0][0])
        if fastest == np.inf:
            return
        missing = [self._missing(worker) for worker in workers]
        before = np.inf
        for slack in SLACKS:
            costs = [
                np.where(time <= fastest * slack * (1 + 1e-12), bytes_ + time * 1e-9, np.inf)
                if slack < np.inf
                else np.where(time < np.inf, bytes_ + time * 1e-9, np.inf)
                for time, bytes_ in zip(seconds, missing, strict=True)
            ]
            best, choices = _best(costs, np.add)
            if best[0] < before * (1 - 1e-9):
                before = float(best[0])
                yield _chain(workers, choices)
            if before < 1:
                return

    def _allowed(self, duty: Duty, stage: int) -> Matrix:
        """Seconds of a micro-batch where the span may be stage ``stage``, infinite elsewhere."""
        seconds = np.where(self._empty, np.inf, self.balancer.seconds)
        if self._limit is not None:
            seconds = np.where(self.balancer.bytes_of(duty, stage) > self._limit, np.inf, seconds)
        return np.asarray(seconds)

    def _missing(self, worker: int) -> Matrix:
        lacks = self._size.copy()
        lacks[list(self._holdings.get(worker, ()))] = 0.0
        sums = np.concatenate([[0.0], np.cumsum(lacks)])
        return np.asarray(sums[None, :] - sums[:, None])


def _best(costs: Sequence[Matrix], join: np.ufunc) -> tuple[Matrix, list[NDArray[np.intp]]]:
    """The least joined cost from each layer on, and the choices that lead there."""
    best = np.full(costs[0].shape[0], np.inf)
    best[-1] = 0.0
    choices = []
    for cost in reversed(costs):
        total = join(cost, best[None, :])
        choice = np.argmin(total, axis=1)
        best = total[np.arange(len(best)), choice]
        choices.append(choice)
    return best, choices[::-1]


def _chain(workers: Sequence[int], choices: Sequence[NDArray[np.intp]]) -> Chain:
    first, stages = 0, []
    for worker, choice in zip(workers, choices, strict=True):
        last = int(choice[first])
        stages.append(Stage(Span(first, last), worker))
        first = last
    return tuple(stages)
