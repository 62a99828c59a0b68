"""Makes *exactly once* of records that come at least once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from ithaca.runtime.control.surface import Beat, Record


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a beat brought that was new.

    Attributes:
        records: not seen before, by ascending sequence number.
        lost: records that the worker counted but had to drop before they could be sent.
        acknowledged: to be returned to the worker: it may forget all up to this number.
    """

    records: tuple[Record, ...]
    lost: int
    acknowledged: int


class Inbox:
    """Remembers the last record taken from each incarnation of each worker.

    A worker repeats records until they are acknowledged, and its numbers only go up: so the last
    number is enough to know what is new and what never came.

    Args:
        seen: what :meth:`seen` gave, to go on after a restart of the controller. Without it a
            record whose acknowledgement was lost is taken a second time, and nothing else.
    """

    def __init__(self, seen: Mapping[tuple[int, str], int] | None = None) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[int, str], int] = dict(seen or {})

    def seen(self) -> dict[tuple[int, str], int]:
        """The last record taken, by (worker, incarnation)."""
        with self._lock:
            return dict(self._last)

    def take(self, beat: Beat) -> Delivery:
        """What is new in ``beat``; taking the same beat again gives nothing new."""
        key = (beat.worker, beat.incarnation)
        with self._lock:
            last = max(self._last.get(key, 0), beat.acknowledged)
            records = tuple(record for record in beat.records if record.sequence > last)
            newest = records[-1].sequence if records else last
            self._last[key] = newest
        return Delivery(records, newest - last - len(records), newest)
