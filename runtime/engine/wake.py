"""Wakes a thread that is blocked in a gloo group, from another thread of the process.

gloo's own ``abort`` does nothing to a wait that has begun, and a worker that is no neighbour of the
one that died waits until the group's timeout, minutes later. But a receive whose own wait runs out
closes the connection to that peer, and with it fails every wait on that connection, collectives
included, whether the peer is alive, dead or stopped. So a receive of a tag that nobody sends,
given up after a millisecond, for every peer, wakes everybody in this process at once; whatever is
started on the group afterwards fails too. See decision 0051 for the measurement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch

WAKE_TAG = 2**31 - 1
"""Never sent; above every tag of :class:`~ithaca.runtime.engine.tags.Tags`."""
_GIVE_UP = timedelta(milliseconds=1)


def wake(group: Any, rank: int, size: int) -> dict[int, str]:  # noqa: ANN401 - torch's group
    """Fail every wait on ``group`` in this process, running and to come; what gloo said, by peer.

    May be called from any thread, also while another one waits, and again. The first peer takes
    some ten milliseconds; its end takes the other connections of the group with it.

    Args:
        group: a ``ProcessGroupGloo``.
        rank: of this process in it.
        size: of the group.
    """
    said: dict[int, str] = {}
    for peer in range(size):
        if peer == rank:
            continue
        try:
            group.recv([torch.empty(1)], peer, WAKE_TAG).wait(_GIVE_UP)
        except RuntimeError as error:
            said[peer] = str(error)
    return said


@dataclass(slots=True)
class _Grave:
    kept: tuple[Any, ...]
    since_s: float


@dataclass(slots=True)
class Graveyard:
    """Groups that were abandoned, with the buffers that their operations may still touch.

    The end of a group waits for its threads, so it must not happen in a thread that has work to
    do, nor while an operation of it may be under way: it is kept for ``rest_s`` seconds and then
    let go in a thread of its own.

    Args:
        rest_s: longer than any operation that was under way can take to fail.
        now: a clock in seconds.
    """

    rest_s: float
    now: Callable[[], float] = time.monotonic
    _graves: list[_Grave] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        with self._lock:
            return len(self._graves)

    def bury(self, *kept: Any) -> None:  # noqa: ANN401 - torch's groups, and tensors
        """Keep everything in ``kept`` alive for a while, and let go what has rested."""
        with self._lock:
            self._graves.append(_Grave(kept, self.now()))
            rested = [grave for grave in self._graves if self._rested(grave)]
            self._graves = [grave for grave in self._graves if not self._rested(grave)]
        if rested:
            threading.Thread(target=rested.clear, name="graveyard", daemon=True).start()

    def _rested(self, grave: _Grave) -> bool:
        return self.now() - grave.since_s >= self.rest_s
