"""The worker's side of the heartbeat: says where the engine is, carries events, takes commands."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ithaca.runtime.control.surface import Beat, BeatReply, Command, Fenced, Record
from ithaca.runtime.control.trouble import ControlError
from ithaca.runtime.control.wire import MAX_RECORD_BYTES, MAX_TEXT

logger = logging.getLogger(__name__)

_BATCH = 256


class Line(Protocol):
    """What the heart sends through; :class:`ControlClient` is one."""

    def beat(self, beat: Beat) -> BeatReply:
        """Sends; raises :class:`Fenced` or :class:`ControlError`, and ends at a deadline."""

    def close(self) -> None:
        """Ends the connection and a call that is under way."""


class Position:
    """Where the engine is. One thread writes, others read; no lock, since a tuple is one store.

    Args:
        now: a clock in seconds that never goes back.
    """

    __slots__ = ("_at", "_now")

    def __init__(self, now: Callable[[], float], generation: int = 0) -> None:
        self._now = now
        self._at: tuple[int, int, object, float, float] = (generation, 0, "", now(), 0.0)

    def enter(self, generation: int, step: int, action: object, expected_s: float = 0.0) -> None:
        """Says what begins now, and how many seconds it is expected to take (0: not known).

        ``action`` is made text when it is sent: it must not change.
        """
        self._at = (generation, step, action, self._now(), expected_s)

    @property
    def generation(self) -> int:
        """Of the plan that the engine works on, or has begun to enter."""
        return self._at[0]

    def read(self) -> tuple[int, int, str, float]:
        """(generation, step, action, seconds in it)."""
        return self.all()[:4]

    def all(self) -> tuple[int, int, str, float, float]:
        """(generation, step, action, seconds in it, seconds expected)."""
        generation, step, action, since, expected_s = self._at
        seconds = max(0.0, self._now() - since)
        return generation, step, str(action)[:MAX_TEXT], seconds, expected_s


class Heart:
    """Beats every ``interval_s`` seconds from a thread of its own, and at once for a record.

    Records are kept until the controller acknowledges them, while it is away too; beyond a bound
    the oldest go, and their missing numbers tell the controller how many. Callbacks run in the
    heart's thread and must return soon.

    Args:
        dial: makes a connection; called again after one was lost.
        worker: the worker's number in the plan.
        incarnation: names this process among those that are or were this worker.
        position: what the engine writes.
        interval_s: between beats, and between tries while the controller is away
            (``Timeouts.beat_s``).
        on_command: called when the controller's command changes to another than ``none``.
        on_fenced: called with the run's generation when a beat was refused as too old, and is
            not older than what the worker is in by now; once for each of the two generations.
            The heart goes on: the worker may get the new plan yet.
        capacity: records kept.
        capacity_bytes: UTF-8 bytes of records kept.
    """

    def __init__(
        self,
        dial: Callable[[], Line],
        worker: int,
        incarnation: str,
        position: Position,
        interval_s: float,
        on_command: Callable[[Command], None],
        on_fenced: Callable[[int], None],
        capacity: int = 4096,
        capacity_bytes: int = 1 << 23,
    ) -> None:
        if not interval_s > 0.0:
            raise ValueError(f"a heart beats every so many seconds, not every {interval_s}")
        self._dial = dial
        self._worker = worker
        self._incarnation = incarnation
        self._position = position
        self._interval_s = interval_s
        self._on_command = on_command
        self._on_fenced = on_fenced
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._changed = threading.Condition()
        self._queue: deque[tuple[Record, int]] = deque()
        self._bytes = 0
        self._complaint = ""
        self._urgent = False
        self._sequence = 0
        self._acknowledged = 0
        self._away = False
        self._stopping = False
        self._ended = False
        self._line: Line | None = None
        self._command = Command.NONE
        self._fence: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name=f"heart-w{worker}", daemon=True)

    def start(self) -> None:
        """Begins to beat; the first goes at once."""
        self._thread.start()

    def report(self, line: str) -> int:
        """Queues one JSON line for the controller and returns its number; never waits for it."""
        if "\n" in line or "\r" in line:
            raise ValueError(f"a record is one line, not {line[:80]!r}")
        size = len(line.encode())
        with self._changed:
            self._sequence += 1
            if size > MAX_RECORD_BYTES:
                logger.error("a record of %d bytes is too long to be sent; dropped", size)
                return self._sequence
            self._queue.append((Record(self._sequence, line), size))
            self._bytes += size
            while len(self._queue) > self._capacity or self._bytes > self._capacity_bytes:
                self._bytes -= self._queue.popleft()[1]
            self._changed.notify_all()
            return self._sequence

    def complain(self, reason: str) -> None:
        """From now on say with every beat why this worker cannot be counted on much longer."""
        with self._changed:
            self._complaint = reason[:MAX_TEXT]
            self._urgent = True
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until what is queued now has been acknowledged; False if ``timeout_s`` was short.

        Records that had to be dropped are not waited for.
        """
        with self._changed:
            last = self._sequence
            self._changed.wait_for(lambda: self._ended or self._delivered(last), timeout_s)
            return self._delivered(last)

    def stop(self, timeout_s: float) -> None:
        """Ends the thread: lets a call under way end for ``timeout_s`` seconds, then cuts it.

        Raises:
            RuntimeError: a callback or the connection holds the thread for as long again.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            with self._changed:
                line = self._line
            if line is not None:
                line.close()
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RuntimeError(f"the heart of worker {self._worker} did not stop")

    def _delivered(self, last: int) -> bool:
        return not self._queue or self._queue[0][0].sequence > last

    def _run(self) -> None:
        try:
            while True:
                self._beat()
                if not self._rest():
                    return
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._hang_up()

    def _rest(self) -> bool:
        """Waits for the next beat; False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or ((bool(self._queue) or self._urgent) and not self._away),
                self._interval_s,
            )
            return not self._stopping

    def _beat(self) -> None:
        """One try, whatever comes of it."""
        beat = self._next_beat()
        try:
            if self._line is None:
                line = self._dial()
                with self._changed:
                    self._line = line
            assert self._line is not None
            reply = self._line.beat(beat)
        except Fenced as fenced:
            self._refused(beat.generation, fenced.generation)
        except ControlError as error:
            if not self._away:
                logger.warning("worker %d cannot reach the controller: %s", self._worker, error)
            self._away = True
            self._hang_up()
        else:
            self._answered(beat, reply)

    def _next_beat(self) -> Beat:
        generation, step, action, since_s, expected_s = self._position.all()
        with self._changed:
            records: list[Record] = []
            size = 0
            for record, bytes_ in self._queue:
                if len(records) == _BATCH or (records and size + bytes_ > MAX_RECORD_BYTES):
                    break
                records.append(record)
                size += bytes_
            acknowledged, complaint = self._acknowledged, self._complaint
            self._urgent = False
        return Beat(
            self._worker,
            self._incarnation,
            generation,
            step,
            action,
            since_s,
            acknowledged,
            tuple(records),
            expected_s,
            complaint,
        )

    def _answered(self, beat: Beat, reply: BeatReply) -> None:
        with self._changed:
            while self._queue and self._queue[0][0].sequence <= reply.acknowledged:
                self._bytes -= self._queue.popleft()[1]
            self._acknowledged = max(self._acknowledged, reply.acknowledged)
            # A controller that takes nothing must not be asked again and again without a rest.
            taken = not beat.records or reply.acknowledged >= beat.records[0].sequence
            self._away = not taken
            self._changed.notify_all()
        self._fence = None
        if reply.command is not self._command:
            self._command = reply.command
            if reply.command is not Command.NONE:
                self._on_command(reply.command)

    def _refused(self, given: int, generation: int) -> None:
        if given != self._position.generation:
            return  # it was under way while its worker entered the next generation
        self._away = True
        if self._fence != (given, generation):
            self._fence = (given, generation)
            logger.warning(
                "worker %d: generation %d is over, the run is in %d",
                self._worker,
                given,
                generation,
            )
            self._on_fenced(generation)

    def _hang_up(self) -> None:
        with self._changed:
            line, self._line = self._line, None
        if line is not None:
            line.close()
