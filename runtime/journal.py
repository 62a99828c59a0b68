"""What a controller has decided, written before it acts: a restarted one reads it and goes on.

JSON lines in ``journal.jsonl``, each synchronised to the disk. The journal is history; what the
workers say of their generation is the truth. One controller writes at a time: the file is locked,
and the kernel unlocks it with the end of the process, however that comes.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from ithaca.runtime.errors import UserError
from ithaca.runtime.lines import LineFile, open_lines

FILE = "journal.jsonl"
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line. ``time_s`` is seconds since the epoch on the controller's machine."""

    kind: ClassVar[str] = ""
    time_s: float

    def __str__(self) -> str:
        """One line of JSON that :func:`parse` reads back."""
        return json.dumps({"kind": self.kind, **asdict(self)}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Entry):
    """A controller took over; ``run`` is the same for all controllers of one driver."""

    kind: ClassVar[str] = "opened"
    run: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fencing(Entry):
    """A generation begins: everything older is over, and ``lost`` take part no longer."""

    kind: ClassVar[str] = "fencing"
    generation: int
    lost: dict[str, str]
    """Worker to the reason, for those lost since the last entry of this kind."""
    trusted: int | None = None
    """Committed steps in the newest state that is known to be good; None if all is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing(Entry):
    """What is about to be done about it; ``plan`` is None for going back to a checkpoint."""

    kind: ClassVar[str] = "choosing"
    generation: int
    strategy: str
    plan: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Entry):
    """All workers of ``plan`` have taken their orders and train under it."""

    kind: ClassVar[str] = "settled"
    generation: int
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining(Entry):
    """A worker came in addition to those that the run began with, on ``node``."""

    kind: ClassVar[str] = "joining"
    worker: int
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Entry):
    """The run has ended."""

    kind: ClassVar[str] = "closed"
    outcome: str


_KINDS: dict[str, type[Entry]] = {
    cls.kind: cls for cls in (Opened, Fencing, Choosing, Settled, Joining, Closed)
}


def parse(line: str) -> Entry:
    """The entry of one line; ``ValueError`` if it is none of this version."""
    data = json.loads(line)
    cls = _KINDS.get(data.pop("kind", None)) if isinstance(data, dict) else None
    if cls is None or not _required(cls) <= set(data) <= {each.name for each in fields(cls)}:
        raise ValueError(f"not an entry of a journal: {line[:80]!r}")
    return cls(**data)


def _required(cls: type[Entry]) -> set[str]:
    return {each.name for each in fields(cls) if each.default is MISSING}


@dataclass(slots=True)
class History:
    """What the entries of one run say together.

    Attributes:
        controllers: how many there have been.
        generation: the newest that was begun; -1 before the first.
        plan: the newest under which all workers trained; None before the first.
        lost: workers that take part no longer, with the reason.
        joined: workers that came in addition, with their nodes.
        unsettled: a generation was begun and nobody is known to train in it.
        trusted: if so, the newest state to go on from; None for whatever survivors hold.
        outcome: how the run ended; None if it has not.
    """

    controllers: int = 0
    generation: int = -1
    plan: str | None = None
    lost: dict[int, str] = field(default_factory=dict)
    joined: dict[int, str] = field(default_factory=dict)
    unsettled: bool = False
    trusted: int | None = None
    outcome: str | None = None

    def take(self, entry: Entry) -> None:
        """Add the next entry."""
        match entry:
            case Opened():
                self.controllers += 1
            case Fencing():
                self.generation = max(self.generation, entry.generation)
                self.lost |= {int(worker): why for worker, why in entry.lost.items()}
                self.unsettled = True
                if entry.trusted is not None:
                    known = entry.trusted if self.trusted is None else self.trusted
                    self.trusted = min(known, entry.trusted)
            case Settled():
                self.generation = max(self.generation, entry.generation)
                self.plan, self.unsettled, self.trusted = entry.plan, False, None
            case Joining():
                self.joined[entry.worker] = entry.node
            case Closed():
                self.outcome = entry.outcome


class Journal:
    """The journal of a run folder, open for writing; a context manager.

    Opening it waits for a controller that is just dying, reads what is there, and removes a last
    line that was cut short; a damaged one elsewhere is left out, and ``warn`` told. A write that
    the disk refuses is no error of the run: ``warn`` is told once per outage, since what the
    workers know outranks the journal.

    Args:
        folder: of the run.
        run: names the driver's run; entries of other runs in the same file are history only.
        warn: told, in a sentence, what is wrong with the file or the disk.
        wait_s: how long another process may still hold the file.

    Raises:
        UserError: another process holds the journal, or it cannot be opened.
    """

    def __init__(
        self, folder: Path, run: str, *, warn: Callable[[str], None], wait_s: float = 10.0
    ) -> None:
        self.path = folder / FILE
        self._run = run
        self._warn = warn
        self._failing = False
        try:
            descriptor = open_lines(self.path, 0o600)
        except OSError as error:
            raise UserError(f"cannot use {self.path}: {error.strerror}") from error
        try:
            self._lock(descriptor, wait_s)
        except BaseException:
            os.close(descriptor)
            raise
        self._file = LineFile(descriptor)  # behind the lock: it cuts
        try:
            self.history = self._read()
        except BaseException:
            self._file.close()
            raise

    def open(self) -> int:
        """Say that this process has taken over; which controller of the run it is, from 0."""
        number = self.history.controllers
        self.write(Opened(time_s=time.time(), run=self._run, pid=os.getpid()))
        return number

    def write(self, entry: Entry) -> None:
        """Append ``entry`` and synchronise it; the history knows it then."""
        self.history.take(entry)
        try:
            self._file.append(f"{entry}\n".encode())
            self._file.sync()
        except OSError as error:
            if not self._failing:
                self._warn(f"cannot write {self.path}: {error.strerror}; training goes on")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Close and unlock the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lock(self, descriptor: int, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{self.path} is in use: the controller of another run writes it. Wait "
                        "for it, stop it, or give this job a folder of its own with folder=..."
                    ) from None
                time.sleep(_LOOK_S)
            except OSError as error:
                raise UserError(f"{self.path} cannot be locked: {error.strerror}") from error
            else:
                return

    def _read(self) -> History:
        """The history of this run: of the entries behind the first that names it."""
        history = History()
        mine = False
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                entry = parse(line)
            except (ValueError, TypeError) as error:
                self._warn(f"{self.path}, line {number}, is left out: {error}")
                continue
            if isinstance(entry, Opened):
                mine = entry.run == self._run
            if mine:
                history.take(entry)
        return history
