"""The control plane's times, all derived from the one that the user sets."""

from __future__ import annotations

from dataclasses import dataclass

CLIENT_S = 10.0
"""Deadline of a command-line client's calls: it does not know the run's ``detect``."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds, in order: ``beat_s < call_s < detect_s``.

    A worker is overdue after ``detect_s`` of silence. Until then it has started at least two
    beats, even when one of them ran into its deadline.

    Attributes:
        beat_s: from one beat to the next, and from a failed one to the next try.
        call_s: deadline of a beat.
        detect_s: what the user set.
    """

    beat_s: float
    call_s: float
    detect_s: float

    @classmethod
    def of(cls, detect_s: float) -> Deadlines:
        """The times for ``detect_s`` seconds; ``ValueError`` if that is not above zero."""
        if not 0.0 < detect_s < float("inf"):
            raise ValueError(f"detect is a time above zero, not {detect_s} s")
        return cls(beat_s=detect_s / 8, call_s=detect_s / 4, detect_s=detect_s)
