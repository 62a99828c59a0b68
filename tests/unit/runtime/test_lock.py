"""One run in a folder, and the first one's name for the second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ithaca.runtime.errors import UserError
from ithaca.runtime.lock import RunLock

_HOLDER = """
import sys
from pathlib import Path
from ithaca.runtime.lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_lock_is_refused_with_the_holder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunLock(folder) as first:
        assert first.held
        second = RunLock(folder)
        with pytest.raises(UserError, match=f"is in use: process {os.getpid()} on "):
            second.acquire()
        assert not second.held
        with pytest.raises(RuntimeError):
            first.acquire()
    assert not first.held
    with RunLock(folder):
        pass
    first.release()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on .* folder=..."):
            RunLock(tmp_path).acquire()
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    with RunLock(tmp_path):
        assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())


def test_a_file_of_lies_is_no_reason_to_fail(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / "lock").write_bytes(b"\xff not a number")
        with pytest.raises(UserError, match="is in use: another process runs a job in it"):
            RunLock(tmp_path).acquire()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use the run folder"):
        RunLock(tmp_path / "file" / "run").acquire()
