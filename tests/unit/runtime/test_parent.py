"""A worker notices that the daemon of its node is gone or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ithaca.runtime.parent import state_of

WAIT_S = 30.0
DAEMON = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import sys
from ithaca.runtime.parent import watch_parent
print("ready", flush=True)
watch_parent(int(sys.argv[1]), 0.4, lambda reason: print(reason, flush=True))
''', str(os.getpid())])
child.wait()
"""


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[str]]:
    """A process with a child that watches it; their common output."""
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(WAIT_S)
    process.stdout.close()


@pytest.mark.parametrize(
    ("kind", "word"), [(signal.SIGKILL, "gone"), (signal.SIGSTOP, "stopped")], ids=str
)
def test_a_daemon_that_is_lost_is_told(
    daemon: subprocess.Popen[str], kind: signal.Signals, word: str
) -> None:
    os.kill(daemon.pid, kind)
    assert daemon.stdout is not None
    assert word in daemon.stdout.readline()


def test_states() -> None:
    assert state_of(os.getpid()) == "R"
    assert state_of(2**22 + 1) == ""
