"""``ithaca tune`` is killed as a whole, and its search goes on: no trial begins anew.

It goes on under a driver of ours, on the cluster of all tests: what ``--resume`` does besides is to
choose the folder and start a cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ithaca.runtime.cluster import Cluster
from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop.driver import Driver
from ithaca.tuners.loop.load import load_tune, middle
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, Ran, read_lines
from ithaca.tuners.loop.training import TrialTraining
from tests.helpers.small_tune import write_search

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

PATIENCE_S = 120.0


def start(folder: Path) -> subprocess.Popen[str]:
    """``ithaca tune`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ithaca", "tune", "search.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def await_log(path: Path, process: subprocess.Popen[str]) -> None:
    """Return when trials were promoted and others run."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        if sum(isinstance(line, Begun) and line.first > 0 for line in read_lines(path)):
            return
        time.sleep(0.02)
    pytest.fail(f"no trial was promoted: {process.communicate()[0]}")


def test_a_search_goes_on_when_its_command_was_killed(tmp_path: Path, ray_cluster: Cluster) -> None:
    write_search(tmp_path, "folder: found", "trials: 4")
    folder = tmp_path / "found"
    killed = start(tmp_path)
    await_log(folder / LOG, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = (folder / JOURNAL).read_bytes()
    tune = load_tune(tmp_path / "search.yaml")
    arm = tune.tune.make_arms()[0]
    driver = Driver(tune, folder, lambda summary: None)
    ended = driver.run(ray_cluster, tune.job(arm.full(middle(arm.space))), 0.0)
    assert ended.summary.over
    assert ended.summary.before_s > 0
    assert (folder / JOURNAL).read_bytes().startswith(before[: before.rfind(b"\n") + 1])

    search, _ = read_journal(folder / JOURNAL)
    assert len(search.trials) == 4
    assert all(trial.failure is None for trial in search.trials.values())
    lines = list(read_lines(folder / LOG))
    begun = [line for line in lines if isinstance(line, Begun)]
    assert not any(line.again for line in begun)
    # No begin lies below a rung that its trial had passed before.
    passed: dict[int, int] = {}
    for line in lines:
        if isinstance(line, Ran) and line.value is not None:
            passed[line.trial] = line.step
        elif isinstance(line, Begun):
            assert line.first >= passed.get(line.trial, 0)
    # The same bits as a training without a search.
    best = search.best
    assert best is not None
    loaded = tune.job(search.full(best))
    alone = TrialTraining(0, loaded.job, loaded.workload_config)
    losses = {step: alone.train() for step in range(best.fidelity)}
    runs = [line for line in lines if isinstance(line, Ran) and line.trial == best.number]
    for run in runs:
        assert [losses[step] for step in range(run.first, run.step)] == list(run.losses)
    assert runs[-1].hash == alone.give().hash()
