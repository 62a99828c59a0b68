"""The texts about failures: one line at a restart, the full account at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from ithaca.runtime.script.failure import Failure, first_failure


def restart_line(failures: Sequence[Failure], attempt: int, restarts: int) -> str:
    """Says that the group is started again, and after what; ``attempt`` counts from 0."""
    first = first_failure(failures)
    because = f": {first.summary}" if first.summary else ""
    return (
        f"ithaca launch: rank {first.place.rank} failed first ({first.cause}){because}\n"
        f"ithaca launch: restart {attempt + 1} of {restarts}, all ranks on a new port"
    )


def failure_report(failures: Sequence[Failure], attempts: int, ending: str) -> str:
    """The account of the last attempt; the first failure's traceback is its end.

    Args:
        failures: of the last attempt, at least one.
        attempts: how many there were.
        ending: why no further one follows.
    """
    first = first_failure(failures)
    others = sorted((f for f in failures if f is not first), key=lambda f: f.at)
    world = first.place.world
    lines = [
        "",
        "=" * 72,
        f"ithaca launch: {len(failures)} of {world} ranks failed in attempt {attempts}; {ending}.",
    ]
    if others:
        lines += ["", "Failed after the first:"]
        lines += [f"  {_line(failure)}" for failure in others]
    lines += ["", f"First to fail: {_who(first)}", f"  {first.cause} at {_clock(first.at)}"]
    if first.folder is not None:
        lines.append(f"  logs: {first.folder}")
    if first.trace:
        lines += [f"  from its {first.source}:", "", textwrap.indent(first.trace, "  ")]
    else:
        lines.append("  it wrote no traceback and nothing to stderr")
    return "\n".join(lines)


def _who(failure: Failure) -> str:
    pid = "" if failure.pid is None else f", pid {failure.pid}"
    place = failure.place
    return f"rank {place.rank} (local rank {place.local_rank} on {failure.host}{pid})"


def _line(failure: Failure) -> str:
    summary = f": {failure.summary}" if failure.summary else ""
    logs = "" if failure.folder is None else f" [{failure.folder}]"
    return f"{_who(failure)}, {failure.cause} at {_clock(failure.at)}{summary}{logs}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(sep=" ", timespec="milliseconds")
