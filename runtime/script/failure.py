"""What made a rank fail: its exit, and the traceback from torch's error file or from stderr."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ithaca.runtime.script.contract import Place
from ithaca.runtime.script.ranks import RankExit

_HEADER = "Traceback (most recent call last):"
_RANK_MARK = re.compile(r"^\[rank\d+\]:\s?(?!\[)")
_CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_NOISE = re.compile(
    r"^(\[rank\d+\]:\[[WIEF]|\[?[WIEF]\d{4} |\S*:\d+: \w*Warning: |Exception ignored in|\[[WIEF]\d)"
)
_FATAL = ("Fatal Python error:", "terminate called")
_LONGEST_LINES = 80
_TAIL_LINES = 20
_NEVER_DIFFERENT = ("SyntaxError", "IndentationError", "TabError", "ModuleNotFoundError")


@dataclass(frozen=True, slots=True)
class Failure:
    """A rank that failed, or was lost with its node.

    Attributes:
        place: of the rank.
        host, pid: of its process; pid None when the agent is lost with it.
        code: exit code, or minus the signal; None when nobody saw the exit.
        at: when it wrote its traceback if it did, else when it ended; seconds since the epoch.
        trace: the traceback, or what stands for it; may be empty.
        source: where the trace is from.
        folder: of its logs; None when it has none.
    """

    place: Place
    host: str
    pid: int | None
    code: int | None
    at: float
    trace: str
    source: str
    folder: Path | None

    @property
    def cause(self) -> str:
        """How it ended: ``exit code 1`` or ``signal SIGKILL``."""
        if self.code is None:
            return "lost"
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:  # a real-time signal has no name
            return f"signal {-self.code}"

    @property
    def has_traceback(self) -> bool:
        """Whether an exception of the script is known."""
        return _HEADER in self.trace

    @property
    def summary(self) -> str:
        """The line that names the exception, or the last line; empty without a trace."""
        lines = self.trace.splitlines()
        start = max((i for i, line in enumerate(lines) if _HEADER in line), default=None)
        if start is not None:
            below = (line for line in lines[start + 1 :] if line and not line[0].isspace())
            return next(below, lines[-1])
        return lines[-1].strip() if lines else ""

    @property
    def would_recur(self) -> bool:
        """Whether a restart meets it again: the script cannot be read, or lacks a module."""
        summary = self.summary
        return summary.split(":")[0] in _NEVER_DIFFERENT or ": No module named " in summary


def failure_of(end: RankExit) -> Failure:
    """The failure behind an exit with a code other than zero."""
    recorded = _recorded(end.error)
    trace = recorded or last_trace(end.stderr)
    if recorded and end.error_at is not None:
        at = min(end.at, end.error_at)
    else:
        at = min(end.at, end.stderr_at) if _HEADER in trace else end.at
    return Failure(
        place=end.place,
        host=end.host,
        pid=end.pid,
        code=end.code,
        at=at,
        trace=trace,
        source="error file" if recorded else "end of stderr",
        folder=end.folder,
    )


def first_failure(failures: Sequence[Failure]) -> Failure:
    """The earliest; among those of one instant the one whose exit was seen first."""
    return min(failures, key=lambda failure: failure.at)


def last_trace(text: str) -> str:
    """The last traceback in ``text``, with the exceptions that led to it.

    Without one: from the interpreter's fatal error on, or the last lines. The mark ``[rank0]:``
    that torch sets before each line of an uncaught exception is taken off.
    """
    lines = [_RANK_MARK.sub("", line) for line in text.splitlines()]
    headers = [i for i, line in enumerate(lines) if _HEADER in line]
    if not headers:
        fatal = [i for i, line in enumerate(lines) if line.startswith(_FATAL)]
        block = lines[fatal[0] :] if fatal else [line for line in lines if line][-_TAIL_LINES:]
        return "\n".join(_short(block))
    first = headers.pop()
    while headers and any(line in _CHAIN for line in lines[headers[-1] : first]):
        first = headers.pop()
    last_header = max(i for i, line in enumerate(lines) if _HEADER in line)
    end = next((i for i in range(last_header, len(lines)) if _NOISE.match(lines[i])), len(lines))
    return "\n".join(_short(lines[first:end])).rstrip()


def _short(lines: list[str]) -> list[str]:
    if len(lines) <= _LONGEST_LINES:
        return lines
    half = _LONGEST_LINES // 2
    left_out = f"  ... {len(lines) - 2 * half} lines ..."
    return [*lines[:half], left_out, *lines[-half:]]


def _recorded(text: str) -> str:
    """The traceback in an error file of torch's recorder; empty when there is none."""
    try:
        message = json.loads(text)["message"]
        if isinstance(message, str):
            return message.rstrip()
        trace = message.get("extraInfo", {}).get("py_callstack") or message["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # not written, half-written or another program's: stderr tells instead
    return str(trace).rstrip()
