"""The fixtures that hold for every test notice what a test leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("leaks")  # one process for all of them

CONFTEST = Path(__file__).parents[2] / "conftest.py"

PLANTED = """
import os
from threading import Event, Thread
import torch.distributed as dist

def test_clean(monkeypatch):
    monkeypatch.setenv("X_LEFT", "1")

def test_daemon():
    Thread(target=Event().wait, args=(1,), daemon=True).start()

def test_environment():
    os.environ["X_LEFT"] = "1"

def test_environment_is_put_back():
    assert "X_LEFT" not in os.environ

def test_thread():
    Thread(target=Event().wait, args=(1,), name="left").start()

def test_group(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)

def test_group_is_gone():
    assert not dist.is_initialized()
"""
COMPLAINTS = {
    "test_environment": "the test leaves other environment variables behind: ['X_LEFT']",
    "test_thread": "the test leaves threads behind: ['left']",
    "test_group": "the test leaves a process group of torch behind",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The summary of running the planted tests under our conftest."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "conftest.py").write_text(CONFTEST.read_text().replace("S = 5.0", "S = 0.1"))
    (folder / "test_planted.py").write_text(PLANTED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "."],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return [line for line in done.stdout.splitlines() if line.startswith(("PASSED", "ERROR "))]


def test_all_planted_tests_have_run(verdicts: list[str]) -> None:
    assert sum(line.startswith("PASSED") for line in verdicts) == 7


def test_what_is_left_behind_is_noticed(verdicts: list[str]) -> None:
    errors = [line for line in verdicts if line.startswith("ERROR")]
    assert len(errors) == len(COMPLAINTS)
    for name, complaint in COMPLAINTS.items():
        assert any(f"::{name} -" in line and complaint in line for line in errors), errors
