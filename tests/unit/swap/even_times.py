"""Times that do not depend on the machine: what a plan decides is then the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ithaca.swap import planning
from ithaca.swap.planning import Planning
from ithaca.swap.replays import Speed
from ithaca.swap.sequence import trace_of
from ithaca.swap.trace import Link, Trace

USUAL_SECONDS, USUAL_SPEED = 50e-6, 1e9
"""Of an operator, and bytes/s of a link each way."""

_links, _observe = Planning._links, Speed.observe


def set_times(
    patch: pytest.MonkeyPatch, seconds: Callable[[], float], speed: Callable[[], float]
) -> None:
    """Sessions plan with these times of operators and speeds of links; none is measured."""

    def timed(*arguments: object) -> Trace:
        trace = trace_of(*arguments)  # type: ignore[arg-type]
        return replace(trace, points=tuple(replace(p, seconds=seconds()) for p in trace.points))

    def links(self: Planning) -> tuple[Link, ...]:
        known = _links(self)
        return tuple(replace(k, out_bytes_per_s=speed(), in_bytes_per_s=speed()) for k in known)

    patch.setattr(planning, "trace_of", timed)
    patch.setattr(Planning, "_links", links)
    patch.setattr(Speed, "observe", lambda *_: None)


def even_times(patch: pytest.MonkeyPatch) -> None:
    """All operators take as long, and all links are as fast."""
    set_times(patch, lambda: USUAL_SECONDS, lambda: USUAL_SPEED)


def any_times(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Operators from a microsecond to ten milliseconds, links from 10 MB/s to 10 GB/s."""
    draw = random.Random(seed)
    set_times(patch, lambda: 10 ** draw.uniform(-6, -2), lambda: 10 ** draw.uniform(7, 10))


def measured_times(patch: pytest.MonkeyPatch) -> None:
    """As in use."""
    patch.setattr(planning, "trace_of", trace_of)
    patch.setattr(Planning, "_links", _links)
    patch.setattr(Speed, "observe", _observe)
