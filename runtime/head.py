"""Watches what a run needs of its Ray cluster: the head, and the daemon of the driver's own node.

Ray ends a process that has lost its head after a minute, without a word to it. Calls between
processes that know each other work until then; that is the time in which a run can be saved.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

from ithaca.runtime.parent import state_of

logger = logging.getLogger(__name__)

_PATIENCE = 2
"""So many looks in a row must find the head gone: one connection may be refused by chance."""


class HeadWatch:
    """Looks from a thread of its own until it is stopped, or has found something.

    Args:
        address: of the head, ``host:port``.
        detect_s: the user's one number.
        probe: answers if the head does; may hang or raise if it does not.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        address: str,
        detect_s: float,
        probe: Callable[[], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._detect_s = detect_s
        self._probe = probe
        self._now = now
        self._daemon: int | None = None
        self._answered = now()
        self._stopping = threading.Event()
        self.reason = ""
        """Why the cluster is of no use any more; empty while it is."""
        self._threads = [
            threading.Thread(target=work, name="head-watch", daemon=True)
            for work in (self._look, self._ask)
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more; a probe that hangs is left behind."""
        self._stopping.set()
        self._threads[0].join(self._detect_s)

    def daemon_is(self, pid: int) -> None:
        """The daemon of this node is process ``pid``."""
        self._daemon = pid

    def _look(self) -> None:
        missed = stopped = 0
        while not self._stopping.wait(self._detect_s / 4):
            missed = 0 if self._reached() else missed + 1
            state = state_of(self._daemon) if self._daemon is not None else "S"
            stopped = stopped + 1 if state == "T" else 0
            if missed >= _PATIENCE:
                self.reason = "the head of the Ray cluster is gone"
            elif self._now() - self._answered > 4 * self._detect_s:
                self.reason = "the head of the Ray cluster does not answer"
            elif state in ("", "Z", "X"):
                self.reason = "Ray's daemon on the driver's node is gone"
            elif stopped > 3:
                self.reason = "Ray's daemon on the driver's node is stopped"
            if self.reason:
                return

    def _reached(self) -> bool:
        try:
            socket.create_connection(self._address, timeout=self._detect_s).close()
        except TimeoutError:
            return True  # a busy machine; the probe tells more
        except OSError:
            return False
        return True

    def _ask(self) -> None:
        while not self._stopping.wait(self._detect_s / 2):
            try:
                self._probe()
            except Exception as error:
                # The other thread sees for how long nothing has come.
                logger.info("the head of the cluster did not answer: %s", error)
            else:
                self._answered = self._now()
