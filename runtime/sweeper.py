"""A program beside an own Ray cluster: clears up after a process that could not do so itself.

``python -I -S sweeper.py <pid> <folder>`` waits until the process ``pid`` ends or standard input
does. Then it sends SIGKILL to every other process that has a file in the folder, which is that
cluster's alone, open for writing, and removes the folder. Ray's daemons follow a killed driver by
themselves, but some take a minute, and none removes the files.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_ROUNDS = 50
_PAUSE_S = 0.1


def writers(folder: str) -> Iterator[int]:
    """Ids of the processes, except this one, that have a file below ``folder`` open to write."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if any(_writes_below(folder, link) for link in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has just ended, or is another user's
            continue


def _writes_below(folder: str, link: Path) -> bool:
    writable = bool(link.lstat().st_mode & stat.S_IWUSR)
    return writable and os.readlink(link).startswith(folder + os.sep)


def sweep(folder: str, spared: int) -> None:
    """Kills the writers, except ``spared``, and those that they start, for five seconds."""
    for _ in range(_ROUNDS):
        left = [pid for pid in writers(folder) if pid != spared]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_PAUSE_S)


def main(arguments: list[str]) -> None:
    """Detaches, waits, sweeps."""
    pid, folder = int(arguments[0]), arguments[1]
    if os.fork() != 0:
        os._exit(0)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    try:
        poll.register(os.pidfd_open(pid), select.POLLIN)
        poll.poll()
    except ProcessLookupError:
        pass  # it has ended already
    sweep(folder, spared=pid)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
