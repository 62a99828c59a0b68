"""A layout: pipelines, splits and shares of micro-batches, without saying who sits where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ithaca.planner.deal import blocks
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.span import Span

Split = tuple[Span, ...]
"""The layers of each stage of a pipeline, in order."""

Cuts = tuple[int, ...]
"""The same as borders: 0, where each further stage begins, and the number of layers."""


class NoLayoutError(ValueError):
    """No layout fits into the memory limit.

    Attributes:
        smallest_bytes: the least limit per worker under which the search finds a layout.
    """

    def __init__(self, message: str, smallest_bytes: int) -> None:
        super().__init__(message)
        self.smallest_bytes = smallest_bytes

    def __reduce__(self) -> tuple[type[NoLayoutError], tuple[str, int]]:
        return type(self), (str(self), self.smallest_bytes)


def cuts_of(split: Sequence[Span]) -> Cuts:
    """The borders of ``split``."""
    return (0, *(span.last for span in split))


@lru_cache(maxsize=1 << 12)
def split_of(cuts: Cuts) -> Split:
    """The stages between ``cuts``."""
    return tuple(Span(first, last) for first, last in pairwise(cuts))


@dataclass(frozen=True, slots=True)
class Layout:
    """Pipelines side by side and what is predicted for them.

    Attributes:
        splits: per pipeline, the layers of its stages.
        shares: per pipeline, how many micro-batches of a step it computes.
        schedule: of all pipelines.
        step_s: seconds of a step.
        transition_s: seconds to get there from where the workers stand; 0 if nobody asked.
        peak_bytes: the most memory any worker needs.
    """

    splits: tuple[Split, ...]
    shares: tuple[int, ...]
    schedule: Schedule
    step_s: float
    transition_s: float
    peak_bytes: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """Stages of each pipeline."""
        return tuple(map(len, self.splits))

    @property
    def num_workers(self) -> int:
        """Workers that it uses."""
        return sum(self.lengths)

    def plan(self, workers: Sequence[int], generation: int = 0) -> Plan:
        """The plan that seats ``workers``, the first ones in the first pipeline.

        Raises:
            ValueError: there are fewer workers than stages.
        """
        if len(workers) < self.num_workers:
            raise ValueError(
                f"the layout has {self.num_workers} stages, but there are {len(workers)} workers"
            )
        seats = iter(workers)
        dealt = blocks(self.shares)
        pipelines = [
            Pipeline(tuple(Stage(span, next(seats)) for span in split), tuple(block))
            for split, block in zip(self.splits, dealt, strict=True)
        ]
        return Plan(tuple(pipelines), self.schedule, generation)
