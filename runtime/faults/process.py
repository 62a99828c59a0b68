"""What a process does to itself: die, stop, run in jerks, get stuck with or without the lock."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_EVER_S = 86400.0
_PERIOD_S = 0.06
"""Of a slow process: short against any detection, long against what starting a helper costs."""


def crash() -> None:
    """SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(pid: int, for_s: float | None) -> None:
    """SIGSTOP to ``pid``; SIGCONT after ``for_s`` seconds, by a helper that needs nobody.

    Returns, if ``pid`` is this process, when it goes on.
    """
    if for_s is not None:
        _helper(f"sleep {for_s:.3f}; kill -CONT {pid}")
    os.kill(pid, signal.SIGSTOP)


def kill_later(pid: int, after_s: float) -> None:
    """SIGKILL to ``pid`` in ``after_s`` seconds; returns at once."""
    _helper(f"sleep {after_s:.3f}; kill -KILL {pid}")


def slow(pid: int, for_s: float, factor: float) -> None:
    """Let ``pid`` run ``1 / factor`` of the time for ``for_s`` seconds; returns at once."""
    run_s = _PERIOD_S / factor
    rounds = max(1, round(for_s / _PERIOD_S))
    _helper(
        f"i=0; while [ $i -lt {rounds} ]; do kill -STOP {pid} || exit; "
        f"sleep {_PERIOD_S - run_s:.3f}; kill -CONT {pid}; sleep {run_s:.3f}; i=$((i+1)); done"
    )


def loop(for_s: float | None) -> None:
    """Compute nothing in this thread; other threads run."""
    end = time.monotonic() + (for_s or _EVER_S)
    while time.monotonic() < end:
        pass


def keep_lock(for_s: float | None) -> None:
    """Stay in C with the interpreter's lock, so that no thread of this process runs Python."""
    ctypes.PyDLL(None).usleep(min(int((for_s or 600.0) * 1e6), 2**31 - 1))


def raylet_of(pid: int) -> int | None:
    """The Ray daemon that started the worker ``pid``; None if Ray did not."""
    here = pid
    while here > 1:
        here = _parent(here)
        if here > 1 and _name(here) == "raylet":
            return here
    return None


def control_store_of(raylet: int) -> int | None:
    """The process of Ray's control store (GCS) in the session of ``raylet``, if on this machine."""
    session = _session(raylet)
    for pid in processes():
        if _name(pid) == "gcs_server" and session is not None and _session(pid) == session:
            return pid
    return None


def processes() -> Iterator[int]:
    """All processes of this machine that can be seen."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _helper(script: str) -> None:
    # In the background of a shell that is waited for, so that no dead child is left with us.
    subprocess.run(
        ["/bin/sh", "-c", f"({script}) >/dev/null 2>&1 &"], check=True, start_new_session=True
    )


def _parent(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[1])


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _session(pid: int) -> str | None:
    """The word of the command line that names Ray's session."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    for word in words:
        name, _, value = word.decode(errors="replace").partition("=")
        if name.lstrip("-").replace("_", "-") == "session-name":
            return value
    return None
