"""The event log on disk: append-only JSONL, one event a line, written by the driver alone.

A log outlives crashes (a line that was cut short is trimmed at the next start) and a full disk
(training goes on, events wait in a bounded buffer, and what was lost is counted).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ithaca.runtime.events import (
    CheckpointWritten,
    Decided,
    Event,
    FailureNoticed,
    PlanChosen,
    Recovered,
    RunEnded,
    RunStarted,
    StepDone,
    Timeline,
    Validated,
    Warned,
    WorkerFailed,
    parse_event,
)
from ithaca.runtime.lines import LineFile, open_lines, whole_lines

Listener = Callable[[Event], None]
"""Called with every event, in order, from the driver's thread."""

_DURABLE = (
    RunStarted,
    CheckpointWritten,
    FailureNoticed,
    Decided,
    Recovered,
    WorkerFailed,
    RunEnded,
)


class LogError(ValueError):
    """A log that is not what an :class:`EventLog` wrote; the message names file and line."""


class EventLog:
    """Appends events to ``path``; call it with an event, so that it is a :data:`Listener`.

    Every event is handed to the operating system before the call returns; the start and the end
    of a run, checkpoints and failures are also synchronised to the disk.

    A write that fails is no error of the run: ``warn`` is called once per outage, up to ``hold``
    events are kept in memory, and each later event tries again. When the disk takes events
    again, the kept ones come first; if older ones had to go, a :class:`Warned` tells how many.

    Args:
        path: the log; made if missing, and continued (its cut-short last line removed) if not.
        warn: told, in a sentence, that an outage began.
        hold: most events kept in memory during an outage.

    Raises:
        ValueError: ``hold`` is below 1.
        OSError: the file cannot be opened at all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        warn: Callable[[str], None],
        hold: int = 4096,
    ) -> None:
        if hold < 1:
            raise ValueError(f"hold must be at least 1, not {hold}")
        self.path = Path(path)
        self.lost = 0
        """Events that will never be in the log, so far."""
        self._warn = warn
        self._held: deque[bytes] = deque(maxlen=hold)
        self._dropped = 0
        self._failing = False
        self._file = LineFile(open_lines(self.path))

    def __call__(self, event: Event) -> None:
        """Append ``event``; ``ValueError`` if the log is closed."""
        if not self._file.is_open:
            raise ValueError(f"the log {self.path} is closed")
        self._keep(_line(event))
        if self._flush(event.time_s) and isinstance(event, _DURABLE):
            self._sync()

    def close(self) -> None:
        """Write what is still held, if the disk takes it, and close the file. Idempotent."""
        if not self._file.is_open:
            return
        while self._held and self._append(self._held[0]):
            self._held.popleft()
        self.lost += len(self._held)
        self._held.clear()
        self._sync()
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep(self, line: bytes) -> None:
        if len(self._held) == self._held.maxlen:
            self.lost += 1
            self._dropped += 1
        self._held.append(line)

    def _flush(self, now: float) -> bool:
        """Write the held lines; False if the disk takes no more."""
        if self._dropped:
            count = f"{self._dropped} event{'s' if self._dropped > 1 else ''}"
            gap = Warned(time_s=now, message=f"{count} lost here: the disk took no more")
            if not self._append(_line(gap)):
                return False
            self._dropped = 0
        while self._held:
            if not self._append(self._held[0]):
                return False
            self._held.popleft()
        self._failing = False
        return True

    def _append(self, line: bytes) -> bool:
        """Write one whole line; False if the disk does not take it."""
        try:
            self._file.append(line)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._warn(
                f"cannot write the event log {self.path}: {error.strerror}; training goes on, the "
                f"next {self._held.maxlen} events wait in memory. Free space to keep them all."
            )


def read(path: str | os.PathLike[str]) -> list[Event]:
    """All events of the log; a last line that a crash cut short is left out.

    Raises:
        LogError: a line before the end is no event of this version.
        OSError: the file cannot be read.
    """
    return list(_events(Path(path)))


def _events(path: Path) -> Iterator[Event]:
    parse = Parser()
    for number, line in enumerate(whole_lines(path), 1):
        yield parse(line, f"{path}, line {number}")


class Parser:
    """Makes events of lines, with fields of the declared types."""

    def __init__(self) -> None:
        self._adapters: dict[type[Event], TypeAdapter[Event]] = {}

    def __call__(self, line: bytes, where: str) -> Event:
        """The event of one line; ``LogError`` says ``where`` there is none."""
        try:
            event = parse_event(line.decode())
            if type(event) not in self._adapters:
                self._adapters[type(event)] = TypeAdapter(type(event))
            return _checked(event, self._adapters[type(event)])
        except (ValueError, TypeError, RecursionError) as error:
            raise LogError(f"{where}, is no event: {_first_line(error)}") from error


def _checked(event: Event, adapter: TypeAdapter[Event]) -> Event:
    """``event`` with fields of the declared types, rows as tuples; ``ValueError`` if not."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    checked = adapter.validate_python(values)
    if not all(map(math.isfinite, _times(checked))):
        raise ValueError("a time is not finite")
    return checked


def _times(event: Event) -> Iterator[float]:
    yield event.time_s
    match event:
        case StepDone() | Validated() | CheckpointWritten():
            yield event.seconds
        case Recovered():
            yield event.pause_s
            yield from event.phases.values()
        case Timeline():
            yield event.began_s
            yield from (at for _, start, end in event.rows for at in (start, end))
        case PlanChosen():
            rows = chain.from_iterable(event.predicted.values())
            yield from (at for _, start, end in rows for at in (start, end))
            yield event.predicted_step_s or 0.0


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first: Any = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]


def _line(event: Event) -> bytes:
    return event.to_json().encode() + b"\n"
