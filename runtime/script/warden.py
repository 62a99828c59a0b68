"""A program beside an agent: kills the agent's ranks, with all their children, if it vanishes.

``python -I -S warden.py`` reads lines ``+<process group>`` and ``-<process group>`` from standard
input. When that ends, it sends SIGKILL to every group it still knows. It detaches from its parent,
so that whatever sweeps up the parent's children does not take it first.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable


def guard(lines: Iterable[str]) -> set[int]:
    """Follows ``lines`` to their end; the process groups that are left."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def main() -> None:
    """Detaches, guards, kills."""
    if os.fork() != 0:
        os._exit(0)
    for group in guard(sys.stdin):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
