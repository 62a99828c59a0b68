"""The worker's side of the stream of orders: opens it, obeys, and opens it again when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ithaca.runtime.control.roll import Attend, Order
from ithaca.runtime.control.surface import Fenced
from ithaca.runtime.control.trouble import ControlError

logger = logging.getLogger(__name__)


class OrderLine(Protocol):
    """What orders come through; :class:`ControlClient` is one."""

    def attend(self, who: Attend) -> Iterator[Order]:
        """Orders as they come; raises :class:`Fenced` or :class:`ControlError`."""

    def close(self) -> None:
        """Ends the connection and a stream that is open on it."""


class Attendance:
    """Listens for orders in a thread of its own for as long as the worker lives.

    A stream that breaks is opened again at once, as a closed one is evidence against its worker;
    but tries begin ``retry_s`` seconds apart at least: the controller may be restarting, and
    training goes on meanwhile. Callbacks run in that thread and must return soon.

    Args:
        dial: makes a connection; called again after one was lost.
        worker: the worker's number.
        incarnation: names this process; the same as in its beats.
        generation: the one that the worker is in now.
        retry_s: from one try to the next while the controller is away.
        on_order: called with every order.
        on_fenced: called with the run's generation when the controller says that this worker is
            no longer part of the run, and it has not entered another generation meanwhile; once
            for each generation. Attending goes on.
    """

    def __init__(
        self,
        dial: Callable[[], OrderLine],
        worker: int,
        incarnation: str,
        generation: Callable[[], int],
        retry_s: float,
        on_order: Callable[[Order], None],
        on_fenced: Callable[[int], None],
    ) -> None:
        if not retry_s > 0.0:
            raise ValueError(f"tries are so many seconds apart, not {retry_s}")
        self._dial = dial
        self._worker = worker
        self._incarnation = incarnation
        self._generation = generation
        self._retry_s = retry_s
        self._on_order = on_order
        self._on_fenced = on_fenced
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._line: OrderLine | None = None
        self._fence = -1
        self._away = False
        self._thread = threading.Thread(target=self._run, name=f"orders-w{worker}", daemon=True)

    def start(self) -> None:
        """Begin to attend."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the stream and the thread.

        Raises:
            RuntimeError: a callback holds the thread for longer than ``timeout_s`` seconds.
        """
        self._stopping.set()
        self._hang_up()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RuntimeError(f"the orders of worker {self._worker} did not stop")

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._attend()
            self._stopping.wait(max(0.0, self._retry_s - (time.monotonic() - began)))

    def _attend(self) -> None:
        """One stream from its beginning to its end, however that comes."""
        line = self._dial()
        with self._lock:
            self._line = line
        who = Attend(self._worker, self._incarnation, self._generation())
        try:
            if self._stopping.is_set():
                return
            for order in line.attend(who):
                self._away = False
                self._on_order(order)
        except Fenced as fenced:
            stale = who.generation != self._generation()  # it has entered the next one meanwhile
            if fenced.generation != self._fence and not stale:
                self._fence = fenced.generation
                self._on_fenced(fenced.generation)
        except ControlError as error:
            if not (self._away or self._stopping.is_set()):
                logger.warning("worker %d lost its orders: %s", self._worker, error)
            self._away = True
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.close()
