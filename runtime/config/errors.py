"""Everything that is wrong with a job's configuration, in one message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ithaca.runtime.config.provenance import Override, Position
from ithaca.runtime.errors import UserError

MOST_SHOWN = 20
"""More messages than this are counted, not shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: ``place`` is None when it is the file as a whole."""

    place: Position | Override | None
    text: str

    def line(self, file: str) -> str:
        """``job.yaml:6:3: text`` or ``override 2: 'a.b=c': text``."""
        if isinstance(self.place, Override):
            return f"{self.place}: {self.text}"
        return f"{file}:{self.place}: {self.text}" if self.place else f"{file}: {self.text}"


class ConfigError(UserError):
    """The configuration cannot be used. Exit code 2.

    Attributes:
        messages: one line per mistake, in the order of the file, overrides last.
    """

    def __init__(self, file: str, messages: Sequence[str], note: str = "") -> None:
        super().__init__(file, tuple(messages), note)
        self.file = file
        self.messages = tuple(messages)
        self.note = note

    def __str__(self) -> str:
        shown = list(self.messages[:MOST_SHOWN])
        left = len(self.messages) - len(shown)
        if left:
            shown.append(f"... and {left} more")
        places = "this" if len(self.messages) == 1 else f"these {len(self.messages)}"
        note = f" {self.note}" if self.note else ""
        todo = f"Nothing was started or written. Correct {places} and try again.{note}"
        return "\n".join([f"cannot use {self.file}", *shown, todo])


def config_error(file: str, problems: Iterable[Problem], note: str = "") -> ConfigError:
    """The error that tells of ``problems``: each place once, sorted, the file before overrides."""

    def order(problem: Problem) -> tuple[int, int, int]:
        match problem.place:
            case None:
                return 0, 0, 0
            case Position(line, column):
                return 1, line, column
            case Override(number):
                return 2, number, 0

    lines = [problem.line(file) for problem in sorted(problems, key=order)]
    return ConfigError(file, list(dict.fromkeys(lines)), note)
