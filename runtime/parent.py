"""Watches the daemon that started this process: Ray's, on the worker's node.

When it is killed its workers live on, and Ray takes many seconds to say so; when it is stopped, a
minute. Until then nothing else is wrong with them; but they will be ended, or can be started no
more, so the run had better go on without them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

_LOOKS = 8
"""How often within the bound the daemon is looked at."""


def watch_parent(parent: int, bound_s: float, complain: Callable[[str], None]) -> None:
    """Return when the parent process is gone, or was stopped for ``bound_s`` seconds; tell first.

    Args:
        parent: the process that started this one, asked for before anything could happen to it:
            who asks later is told of the process that orphans are given to.
        bound_s: half of it passes at most until a parent that is gone is noticed.
        complain: told why this process cannot be counted on much longer.
    """
    rest = threading.Event()
    stopped = 0
    while True:
        if os.getppid() != parent or state_of(parent) in ("", "Z", "X"):
            complain(f"the daemon of its node, process {parent}, is gone")
            return
        stopped = stopped + 1 if state_of(parent) == "T" else 0
        if stopped > _LOOKS // 2:
            complain(f"the daemon of its node, process {parent}, is stopped")
            return
        rest.wait(bound_s / _LOOKS)


def state_of(pid: int) -> str:
    """The letter of a process's state, such as ``S``, ``T`` (stopped) or ``Z``; empty if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name is in parentheses and may hold anything.
    return text.rpartition(")")[2].split()[0]
