"""The log of a search beside its journal: what each run of a trial did, and who was lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ithaca.runtime.errors import writing
from ithaca.runtime.lines import LineFile, open_lines, whole_lines
from ithaca.tuners.journal import JournalError
from ithaca.tuners.loop.orders import Outcome

LOG = "runs.jsonl"
JOURNAL = "journal.jsonl"
KNOBS_JOURNAL = "search.jsonl"
"""Of a search of knobs: its folder is that of a run, whose controllers have a journal too."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of a trial ended; ``process`` trained it."""

    at_s: float
    process: int
    trial: int
    run: int
    first: int
    step: int
    losses: tuple[float, ...]
    hash: str
    seconds: float
    pause_s: float
    nbytes: int
    value: float | None
    failure: str | None
    reason: str

    @staticmethod
    def of(outcome: Outcome, process: int, at_s: float) -> Ran:
        """What an outcome leaves in the log."""
        o = outcome
        return Ran(
            at_s,
            process,
            o.trial,
            o.run,
            o.first,
            o.step,
            o.losses,
            o.hash,
            o.seconds,
            o.pause_s,
            o.nbytes,
            o.value,
            o.failure.value if o.failure else None,
            o.reason,
        )


@dataclass(frozen=True, slots=True)
class Gone:
    """A process is gone; ``trial`` was trained there, None for nothing."""

    at_s: float
    process: int
    trial: int | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial begins to train in ``process`` at step ``first``.

    ``again``: it had got further, and no copy of that is left.
    """

    at_s: float
    process: int
    trial: int
    run: int
    first: int
    again: bool


@dataclass(frozen=True, slots=True)
class Took:
    """A coordinator, process ``pid``, took over with so many events in the journal."""

    at_s: float
    pid: int
    events: int


Line = Ran | Gone | Begun | Took
_KINDS: dict[str, type[Line]] = {"ran": Ran, "gone": Gone, "begun": Begun, "took": Took}


def write_line(path: Path, line: Line) -> None:
    """Append to the log, behind its last whole line.

    Raises:
        UnwritableError: the disk does not take it.
    """
    kind = next(name for name, each in _KINDS.items() if isinstance(line, each))
    text = json.dumps({"kind": kind, **asdict(line)}) + "\n"
    with writing(path), closing(LineFile(open_lines(path))) as file:
        file.append(text.encode())


def read_lines(path: Path) -> Iterator[Line]:
    """The log; a last line that is torn is left out.

    Raises:
        JournalError: another line is damaged.
    """
    if not path.exists():
        return
    for number, line in enumerate(whole_lines(path), 1):
        try:
            yield _parse(line)
        except (ValueError, TypeError, KeyError) as error:
            raise JournalError(f"{path}:{number}: damaged: {error}") from error


def _parse(line: bytes) -> Line:
    data: dict[str, Any] = json.loads(line)
    kind = _KINDS[data.pop("kind")]
    if kind is Ran:
        data["losses"] = tuple(data["losses"])
    return kind(**data)


def next_process(path: Path) -> int:
    """The number of a process that no log line is about yet."""
    known = (line.process for line in read_lines(path) if not isinstance(line, Took))
    return max(known, default=-1) + 1
