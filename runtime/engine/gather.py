"""Waits until all workers of a generation have come to its store, in a way that can be given up.

Making a process group waits for missing workers too, but nothing can end that wait early: a worker
that is lost just then would hold all others up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from torch.distributed.distributed_c10d import PrefixStore, Store

from ithaca.runtime.engine.channel import AbsentWorkers, ChannelError, channel_errors

_SHORTEST_S, _LONGEST_S = 0.001, 0.02


def gather(
    store: Store,
    generation: int,
    worker: int,
    workers: Sequence[int],
    bound_s: float,
    given_up: Callable[[], bool],
) -> None:
    """Say that ``worker`` is here, and return when all ``workers`` are.

    Raises:
        AbsentWorkers: somebody did not come within ``bound_s`` seconds.
        ChannelError: the store is gone, or ``given_up()`` was true.
    """
    rest, pause_s = threading.Event(), _SHORTEST_S
    deadline = time.monotonic() + bound_s
    missing = [other for other in workers if other != worker]
    with channel_errors():
        here = PrefixStore(f"here-{generation}", store)
        here.set(str(worker), "1")
        while True:
            missing = [other for other in missing if not here.check([str(other)])]
            if not missing:
                return
            if given_up():
                raise ChannelError("another generation was announced while this one met")
            if time.monotonic() > deadline:
                raise AbsentWorkers(
                    f"workers {missing} did not come within {bound_s:g} s", frozenset(missing)
                )
            rest.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_S)
