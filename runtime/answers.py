"""Answers of workers as they come: a thread waits for Ray's futures and hands over what they hold.

So the controller waits in one place only, for whatever happens next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Take = Callable[[Any], None]
"""Called with what a future holds, or with the exception that it raised."""

_LOOK_S = 0.05
"""Longest time until a future that was added is waited for."""


class Answers:
    """Hands the result of each future to the function that it was added with.

    Functions are called in this object's thread, one at a time, and must return soon.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[Any, Take] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()

    def add(self, future: Any, take: Take) -> None:  # noqa: ANN401 - Ray's reference
        """Call ``take`` when ``future`` is done."""
        with self._changed:
            self._open[future] = take
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """Wait for no more futures, and for the thread at most ``timeout_s`` seconds."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._open))
                if self._stopped:
                    return
                waiting = list(self._open)
            for future in finished(waiting, _LOOK_S):
                with self._changed:
                    take = self._open.pop(future)
                take(result(future))


def finished(futures: list[Any], bound_s: float) -> list[Any]:
    """Those of ``futures`` that are done; waits at most ``bound_s`` seconds for the first."""
    import ray

    ready, _ = ray.wait(futures, num_returns=1, timeout=bound_s)
    if ready:
        ready, _ = ray.wait(futures, num_returns=len(futures), timeout=0)
    return list(ready)


def result(future: Any) -> Any:  # noqa: ANN401 - whatever a worker's method returns
    """What a finished future holds, or the exception in it: the worker's own if it raised one."""
    import ray

    try:
        return ray.get(future)
    except ray.exceptions.RayTaskError as error:
        return error.cause or error
    except Exception as error:  # Ray's own, of several bases
        return error
