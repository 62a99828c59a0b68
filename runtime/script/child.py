"""A program in front of every rank: dies with its parent, then becomes the rank by ``exec``.

``python -I -S child.py <pid of the parent> <program> [arguments]``. The kernel then kills the rank
when the thread that started it ends, whatever ended it (prctl(2), PR_SET_PDEATHSIG). It also undoes
what a Ray worker and an interpreter hand down: blocked and ignored signals.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_COMMAND_NOT_FOUND = 127


def main(arguments: list[str]) -> None:
    """Becomes ``arguments[1:]``, or exits with 127 when that cannot be executed."""
    parent, command = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"cannot ask for a parent-death signal: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before the rank began")
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot execute {command[0]!r}: {error.strerror}", file=sys.stderr)
        sys.exit(_COMMAND_NOT_FOUND)


if __name__ == "__main__":
    main(sys.argv[1:])
