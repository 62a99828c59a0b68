"""The journal of a search: its settings and every event, one JSON line each, only ever appended.

A line is on the disk before its event counts. Whoever was killed leaves whole lines and at most one
that is torn; the next one cuts that off, applies the rest, and has the state of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ithaca.runtime.errors import UnwritableError, UserError, writing
from ithaca.runtime.lines import LineFile, open_lines, whole_lines
from ithaca.tuners.arm import Arm
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.trial import Event, from_json, to_json

VERSION = 1
_BEGIN = b'{"version":'
_ENDS = ("budget_s", "num_trials")
"""Settings that may become others while a search goes on."""


class JournalError(UserError):
    """A journal cannot be read, or belongs to another search."""


class Journal:
    """Appends to a file; a context manager that closes it. Made by :func:`open_journal`."""

    def __init__(self, path: Path, file: LineFile, lines: int) -> None:
        self._path, self._file = path, file
        self._failed: UnwritableError | None = None
        self.lines = lines

    def write(self, event: Event) -> None:
        """Put ``event`` on the disk.

        Raises:
            UnwritableError: the disk does not take it, nor anything behind it.
            JournalError: somebody else writes the file.
            ValueError: it is closed.
        """
        self.line({"n": self.lines, **to_json(event)})

    def line(self, data: dict[str, Any]) -> None:
        """Put one JSON line on the disk; errors as in :meth:`write`."""
        if not self._file.is_open:
            raise ValueError(f"the journal {self._path} is closed")
        if self._failed is not None:
            raise self._failed  # behind a gap no line could be applied
        if not self._file.is_ours:
            raise JournalError(
                f"{self._path} has been written by somebody else since it was opened here. Let one "
                "process search at a time, and give each search a journal of its own."
            )
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        try:
            with writing(self._path):
                self._file.append(text.encode() + b"\n")
                self._file.sync()
        except UnwritableError as error:
            self._failed = error
            raise
        self.lines += 1

    def close(self) -> None:
        """Close the file."""
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


def open_journal(path: Path, settings: Settings, arms: Sequence[Arm]) -> tuple[Journal, Search]:
    """The journal at ``path``, new or with what is in it, and the search in the state it tells.

    With another budget, or number of trials, than before the search goes on with that one.

    Raises:
        JournalError: it is damaged, or was begun with other settings or arms.
        UnwritableError: it cannot be opened or made; one that was not there is not there then.
    """
    head = {"version": VERSION, "settings": settings.spec(), "arms": [a.spec() for a in arms]}
    search, lines = Search(settings, arms), 0
    new = not path.exists()
    # All of it is read before it is opened for writing, which cuts: it may be another file.
    for number, line in enumerate([] if new else _lines(path)):
        if number == 0:
            search = Search(_check_head(path, line, head), arms)
        else:
            _apply(search, path, number, line)
        lines = number + 1
    if lines == 0 and not new:
        _check_torn(path)
    with writing(path):
        journal = Journal(path, LineFile(open_lines(path)), lines)
    try:
        if lines == 0:
            journal.line(head)
        _extend(journal, search, path, settings)
    except BaseException:
        journal.close()
        if new:
            path.unlink(missing_ok=True)
        raise
    return journal, search


def read_journal(path: Path) -> tuple[Search, list[Event]]:
    """The search that a journal tells of, and its events; changes nothing.

    Raises:
        JournalError: it is damaged or empty.
    """
    search: Search | None = None
    events: list[Event] = []
    for number, line in enumerate(_lines(path)):
        if search is None:
            data = json.loads(line)
            arms = [Arm.parse(arm) for arm in data["arms"]]
            search = Search(Settings.parse(data["settings"]), arms)
        else:
            events.append(_apply(search, path, number, line))
    if search is None:
        raise JournalError(f"{path} is empty: no search was begun there")
    return search, events


def _lines(path: Path) -> Iterator[bytes]:
    """Every whole line; ``JournalError`` if the file cannot be read."""
    try:
        yield from whole_lines(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error


def _check_torn(path: Path) -> None:
    """A file without a whole line is a journal whose first one was cut short, or none."""
    found = path.read_bytes()[: len(_BEGIN)]
    if found != _BEGIN[: len(found)]:
        raise JournalError(f"{path}: not a journal of a search: it begins with {found!r}")


def _extend(journal: Journal, search: Search, path: Path, settings: Settings) -> None:
    try:
        event = search.extend(settings.budget_s, settings.num_trials)
    except ValueError as error:
        raise JournalError(f"{path} cannot go on with another budget: {error}") from error
    if event is not None:
        journal.write(event)


def _check_head(path: Path, line: bytes, head: dict[str, Any]) -> Settings:
    """The settings that the search began with; they may differ from ours in its end alone."""
    try:
        found = json.loads(line)
        theirs = dict(found["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise JournalError(f"{path}:1: not a journal of a search: {error!r}") from error
    # Through JSON, so that tuples compare with lists.
    wanted = json.loads(json.dumps(head))
    ours = wanted["settings"]
    differs = [key for key in wanted if key != "settings" and wanted[key] != found.get(key)]
    differs += [
        f"settings.{key}" for key in ours if key not in _ENDS and ours[key] != theirs.get(key)
    ]
    if differs:
        raise JournalError(
            f"{path} was begun with other settings; these differ: {', '.join(differs)}. Go on with "
            "the same settings, or give another folder."
        )
    return Settings.parse(theirs)


def _apply(search: Search, path: Path, number: int, line: bytes) -> Event:
    try:
        data = json.loads(line)
        if data.pop("n") != number:
            raise ValueError("lines are missing before it")
        event = from_json(data)
        search.apply(event)
    except (ValueError, TypeError, KeyError) as error:
        raise JournalError(f"{path}:{number + 1}: damaged: {error}") from error
    return event
