"""Every timeout of a run, derived from the one that the user sets: ``detect``.

Timeouts that are set one by one end up in the wrong order: a long one hides the failure that a
short one should have reported. Here there is one number, and the order is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Durations in seconds, each longer than the one before it.

    Raises:
        ValueError: a duration is not finite, not positive, or not longer than the one before.
    """

    beat_s: float
    """Between two heartbeats: three may be lost before a worker is suspected."""
    call_s: float
    """Deadline of one control call: it must fail before its worker is suspected, to name it."""
    suspect_s: float
    """``detect`` itself: a worker that showed no progress for so long is suspected."""
    grace_s: float
    """Between asking a process to end and killing it: a suspect has time to tell why it hung."""
    drain_s: float
    """Without progress during a drain: then the step and its checkpoint are given up."""
    join_s: float
    """From starting a worker to its first beat: it loads Python, torch and its data."""
    backstop_s: float
    """Of process groups: ends a wait that everything above missed, and nothing earlier."""

    def __post_init__(self) -> None:
        before, least = "zero", 0.0
        for name, seconds in self:
            if not (math.isfinite(seconds) and seconds > least):
                raise ValueError(
                    f"{name} must be longer than {before} ({least:g} s), not {seconds}"
                )
            before, least = name, seconds

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """(name, seconds), shortest first."""
        return iter([(field.name, getattr(self, field.name)) for field in fields(self)])

    @classmethod
    def from_detect(cls, detect_s: float) -> Timeouts:
        """All timeouts of a job whose ``detect`` is ``detect_s`` seconds.

        The last two have a floor of their own, because what they wait for (loading torch, a long
        computation of another worker) does not get faster when ``detect`` is short.
        """
        return cls(
            beat_s=detect_s / 4,
            call_s=detect_s / 2,
            suspect_s=detect_s,
            grace_s=2 * detect_s,
            drain_s=4 * detect_s,
            join_s=60 + 8 * detect_s,
            backstop_s=600 + 16 * detect_s,
        )


MEANING = {
    "beat_s": "between two heartbeats",
    "call_s": "deadline of a control call",
    "suspect_s": "without progress: the worker is suspected",
    "grace_s": "from asking a process to end to killing it",
    "drain_s": "without progress while draining: given up",
    "join_s": "from starting a worker to its first heartbeat",
    "backstop_s": "of process groups, if all else missed it",
}
"""One line for each timeout, for people."""
