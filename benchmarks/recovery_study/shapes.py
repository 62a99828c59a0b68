"""Pipelines of given lengths: their splits, their shares of the batch, and two estimates.

The *published* estimate is Eq. 9 to 11 of arXiv 2508.21613: compute alone. The *calibrated* one has
messages, the largest all-reduce and the optimizer step as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from benchmarks.recovery_study.job import Job
from ithaca.planner.deal import counts
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.span import Span

SHORTEST = 6
"""Stages of the shortest pipeline that was measured; templates and ranges begin there."""

FINALISTS = 6
"""Plans whose true steps are compared."""

Lengths = tuple[int, ...]
PipelineSeconds = Callable[[int, int], float]
"""Of (stages, micro-batches)."""


class Shapes:
    """Splits and estimates for pipelines of ``job``, by their number of stages."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._compute = np.cumsum([0.0, *(x.forward_s + x.backward_s for x in job.profile.layers)])
        self._stages = cache(self._stage_seconds)
        self.split = cache(self._split)

    def published_s(self, stages: int, micro_batches: int) -> float:
        """Eq. 9: every stage takes what the slowest one takes."""
        compute = self._stages(stages)[0]
        return (stages + micro_batches - 1) * max(compute)

    def calibrated_s(self, stages: int, micro_batches: int) -> float:
        """Fill, then the slowest stage, with messages that block; without the reduction."""
        cycles = self._stages(stages)[1]
        return sum(cycles) + (micro_batches - 1) * max(cycles)

    def tail_s(self, lengths: Lengths) -> float:
        """The largest ring all-reduce and optimizer step of pipelines of these lengths."""
        part = 2 * (len(lengths) - 1) / len(lengths)
        bandwidth = self._job.profile.link.bytes_per_s
        layers = self._job.profile.layers
        return max(
            sum(part * layers[i].grad_bytes / bandwidth + layers[i].step_s for i in span)
            for span in self.split(min(lengths))
        )

    def plan(self, lengths: Lengths, dealt: Sequence[int]) -> Plan:
        """The plan with these pipelines, whose i-th computes ``dealt[i]`` micro-batches."""
        pipelines, worker, first = [], 0, 0
        for length, count in zip(lengths, dealt, strict=True):
            stages = []
            for span in self.split(length):
                stages.append(Stage(span, worker))
                worker += 1
            pipelines.append(Pipeline(tuple(stages), tuple(range(first, first + count))))
            first += count
        return Plan(tuple(pipelines), Schedule.ONE_F_ONE_B)

    def dealt(self, lengths: Lengths, seconds: PipelineSeconds) -> tuple[int, ...]:
        """Shares of the batch so that the slowest pipeline is as fast as possible."""
        return counts(lengths, self._job.micro_batches, seconds)

    def ranked(
        self, shapes: Iterable[Lengths], seconds: PipelineSeconds, *, tail: bool
    ) -> list[Plan]:
        """Plans of the shapes, those first that end first by ``seconds``, plus reductions if
        ``tail``; a few at most."""
        found = []
        for lengths in shapes:
            dealt = self.dealt(lengths, seconds)
            pairs = zip(lengths, dealt, strict=True)
            total = max(seconds(*pair) for pair in pairs) + tail * self.tail_s(lengths)
            found.append((total, lengths, dealt))
        return [self.plan(lengths, dealt) for _, lengths, dealt in sorted(found)[:FINALISTS]]

    def fastest(
        self, shapes: Iterable[Lengths], seconds: PipelineSeconds, *, tail: bool
    ) -> Plan | None:
        """The first one."""
        return next(iter(self.ranked(shapes, seconds, tail=tail)), None)

    def _split(self, stages: int) -> tuple[Span, ...]:
        """Layers per stage: the slowest stage, messages included, as fast as possible.

        Of such splits the one with the least sum of squares.
        """
        compute = self._compute[None, :] - self._compute[:, None]
        size = len(self._compute)
        empty = ~np.triu(np.ones((size, size), dtype=bool), k=1)
        cycles = [
            np.where(empty, np.inf, compute + count * self._job.profile.action_s)
            for count in _actions(stages)
        ]
        slowest = np.inf
        for join in (np.maximum, np.add):
            best = np.full(size, np.inf)
            best[-1] = 0.0
            choices = []
            for cycle in reversed(cycles):
                allowed = np.where(cycle <= slowest * (1 + 1e-9), cycle, np.inf)
                total = join(allowed if join is np.maximum else allowed**2, best[None, :])
                choices.append(np.argmin(total, axis=1))
                best = np.min(total, axis=1)
            slowest = min(slowest, float(best[0])) if join is np.maximum else slowest
        spans, first = [], 0
        for choice in reversed(choices):
            last = int(choice[first])
            spans.append(Span(first, last))
            first = last
        return tuple(spans)

    def _stage_seconds(self, stages: int) -> tuple[list[float], list[float]]:
        """Per stage: compute, and compute with its messages."""
        compute = [
            float(self._compute[span.last] - self._compute[span.first])
            for span in self.split(stages)
        ]
        action_s = self._job.profile.action_s
        return compute, [
            seconds + count * action_s
            for seconds, count in zip(compute, _actions(stages), strict=True)
        ]


def _actions(stages: int) -> list[int]:
    """F, B and messages of each stage for one micro-batch."""
    return [2 + 2 * ((k > 0) + (k < stages - 1)) for k in range(stages)]


def partitions(cards: int, most_stages: int, fewest_pipelines: int = 1) -> Iterator[Lengths]:
    """Pipeline lengths, longest first, that use all of ``cards``, none below ``SHORTEST``."""
    for pipelines in range(max(cards // SHORTEST, 1), fewest_pipelines - 1, -1):
        yield from _parts(cards, pipelines, min(cards, most_stages))


def _parts(total: int, parts: int, longest: int) -> Iterator[Lengths]:
    if parts == 1:
        if SHORTEST <= total <= longest:
            yield (total,)
        return
    for first in range(min(longest, total - SHORTEST * (parts - 1)), SHORTEST - 1, -1):
        if first * parts < total:
            return
        for rest in _parts(total - first, parts - 1, first):
            yield (first, *rest)
