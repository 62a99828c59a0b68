"""What a process does to itself, seen from outside: real processes, none of which loads torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import pytest

from ithaca.runtime.faults import process

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[4]
BOUND_S = 20.0
PROGRAM = """
import os, sys, threading, time
from ithaca.runtime.faults import process

def tick():
    while True:
        os.write(1, b"tick\\n")
        time.sleep(0.02)

threading.Thread(target=tick, daemon=True).start()
sys.stdin.readline()
os.write(1, b"before\\n")
{what}
os.write(1, b"after\\n")
sys.stdin.readline()
"""


@contextmanager
def child(what: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does ``what`` and then says so, while another thread of it ticks."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(what=what)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    with process:
        try:
            assert line(process).startswith("tick")
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes], bound_s: float = BOUND_S) -> str:
    """The next line, or nothing when there is none within the bound."""
    assert process.stdout is not None
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        return process.stdout.readline().decode().strip() if selector.select(bound_s) else ""


def ticks(process: subprocess.Popen[bytes]) -> int:
    """How often another thread of it ran while it did what it does."""
    said = []
    while (found := line(process)) != "after":
        assert found, "it never came to an end"
        said.append(found)
    return len(said[said.index("before") :]) - 1


def state(pid: int) -> str:
    """The letter of a process's state: R, S, T (stopped), Z, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def stops(process: subprocess.Popen[bytes], most: int) -> int:
    """How often it was seen to stop after it had run, up to ``most`` times."""
    seen, before = 0, ""
    deadline = time.monotonic() + BOUND_S
    while seen < most and time.monotonic() < deadline:
        now = state(process.pid)
        seen += now == "T" and before != "T"
        before = now
    return seen


def test_a_crash_is_a_kill() -> None:
    with child("process.crash()") as killed:
        assert killed.wait(BOUND_S) == -signal.SIGKILL


def test_a_stop_ends_by_itself() -> None:
    with child("process.stop(os.getpid(), 0.4)") as stopped:
        assert ticks(stopped) <= 2


def test_a_stop_without_an_end_lasts() -> None:
    with child("process.stop(os.getpid(), None)") as stopped:
        assert stops(stopped, 1) == 1
        os.kill(stopped.pid, signal.SIGCONT)
        ticks(stopped)


def test_a_slow_process_runs_in_jerks_and_is_let_go() -> None:
    with child("process.slow(os.getpid(), 0.6, 4.0); time.sleep(1.5)") as slowed:
        assert stops(slowed, 4) == 4
        assert ticks(slowed) > 5
        assert state(slowed.pid) != "T"


def test_a_loop_leaves_other_threads_alone() -> None:
    with child("process.loop(0.5)") as looping:
        assert ticks(looping) >= 4


def test_a_kept_lock_stops_all_threads() -> None:
    with child("process.keep_lock(0.5)") as keeping:
        assert ticks(keeping) <= 2


def test_without_the_lock_threads_would_go_on() -> None:
    with child("import ctypes; ctypes.CDLL(None).usleep(500000)") as waiting:
        assert ticks(waiting) >= 4


def test_daemons_of_ray_are_found_by_name_and_session(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {10: "python", 9: "bash", 8: "raylet", 7: "gcs_server"}
    sessions = {8: "session_x", 7: "session_x"}
    parents = {10: 9, 9: 8, 8: 1}
    monkeypatch.setattr(process, "_name", lambda pid: names.get(pid, ""))
    monkeypatch.setattr(process, "_parent", lambda pid: parents.get(pid, 0))
    assert process.raylet_of(10) == 8
    names[8] = "other"
    assert process.raylet_of(10) is None
    monkeypatch.setattr(process, "_session", lambda pid: sessions.get(pid))
    monkeypatch.setattr(process, "processes", lambda: iter(names))
    assert process.control_store_of(8) == 7
    sessions[7] = "session_y"
    assert process.control_store_of(8) is None
