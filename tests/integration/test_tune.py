"""``ithaca tune`` on real processes: all of them are lost, then some one by one; nothing else is.

The command is killed as a whole. Its search goes on under a driver of ours, on the cluster of all
tests: what ``--resume`` does besides is to choose the folder and start a cluster. There a process
is killed, the coordinator, and another process.
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
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.driver import Driver, Ended
from ithaca.tuners.loop.load import LoadedTune, load_tune, middle
from ithaca.tuners.loop.page import build_page
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, Gone, Line, Ran, Took, read_lines
from ithaca.tuners.loop.training import TrialTraining
from ithaca.tuners.space import Config
from tests.helpers.driven import ROOT, has_torch
from tests.helpers.small_tune import write_search

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

PATIENCE_S = 120.0
BEHIND = 8
"""Steps before the gate: behind the first rung, where every trial has a state to go on from."""


@pytest.fixture
def tune(tmp_path: Path) -> LoadedTune:
    """Five small trials, each of which must pass a gate."""
    path = write_search(tmp_path, "folder: found", "trials: 5", "spares: 1")
    job = tmp_path / "job.yaml"
    gated = f"use: tests.helpers.gated_lm:GatedLM\n  gate: {gate(tmp_path)}\n  behind: {BEHIND}"
    job.write_text(job.read_text().replace("use: lm", gated))
    return load_tune(path)


def gate(folder: Path) -> Path:
    """The file that opens the gate."""
    return folder / "open"


def command(folder: Path) -> subprocess.Popen[str]:
    """``ithaca tune`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ithaca", "tune", "search.yaml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_behind_a_promotion(folder: Path, process: subprocess.Popen[str]) -> None:
    """Kill the command when a trial was promoted and can get no further than the gate."""
    until = time.monotonic() + PATIENCE_S
    while not any(isinstance(line, Begun) and line.first for line in read_lines(folder / LOG)):
        if time.monotonic() > until or process.poll() is not None:
            pytest.fail(f"no trial was promoted: {process.communicate()[0]}")
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


class Killer:
    """Kills a process at the gate, then the coordinator, then another process; then opens.

    ``before``: processes that the coordinator of the killed command saw go before it went itself.
    """

    def __init__(self, gate: Path) -> None:
        self.driver: Driver | None = None
        self.killed: list[str] = []
        self.torch: list[tuple[str, bool]] = []
        self.before: int | None = None
        self._gate = gate
        self._coordinator: int | None = None

    def __call__(self, summary: Summary) -> None:
        """Strike once the search has noticed the stroke before."""
        assert self.driver is not None
        if self.before is None:
            self.before = summary.lost
        noticed = summary.lost == self.before + self.killed.count("process")
        if not noticed or self.driver.coordinator in (None, self._coordinator):
            return
        if len(self.killed) == 3:
            self._gate.touch()
        elif len(self.killed) == 1:
            self._coordinator = self.driver.coordinator
            assert self._coordinator is not None
            self._kill("coordinator", self._coordinator)
        else:
            waiting = [n for n, _, step in summary.running if step == BEHIND]
            if waiting:
                self._kill("process", self.driver.pids[waiting[0]])

    def _kill(self, what: str, pid: int) -> None:
        self.killed.append(what)
        self.torch.append((what, has_torch(pid)))
        os.kill(pid, signal.SIGKILL)


def go_on(tune: LoadedTune, folder: Path, cluster: Cluster, killer: Killer) -> Ended:
    """The search, disturbed."""
    killer.driver = driver = Driver(tune, folder, killer)
    arm = tune.tune.make_arms()[0]
    return driver.run(cluster, tune.job(arm.full(middle(arm.space))), 0.0)


def test_a_search_loses_everybody_and_then_one_after_the_other(
    tune: LoadedTune, tmp_path: Path, ray_cluster: Cluster
) -> None:
    folder, killer = tmp_path / "found", Killer(gate(tmp_path))
    kill_behind_a_promotion(folder, command(tmp_path))
    before = (folder / JOURNAL).read_bytes()
    ended = go_on(tune, folder, ray_cluster, killer)
    assert killer.killed == ["process", "coordinator", "process"]
    # Nobody waits for torch where a coordinator starts, at first or anew.
    assert killer.torch == [("process", True), ("coordinator", False), ("process", True)]
    assert ended.summary.over
    assert ended.summary.before_s > 0
    assert ended.summary.again == 0
    assert killer.before is not None
    assert ended.summary.lost == killer.before + 2
    assert (folder / JOURNAL).read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    search, _ = read_journal(folder / JOURNAL)
    assert len(search.trials) == 5
    assert all(trial.failure is None for trial in search.trials.values())
    lines = list(read_lines(folder / LOG))
    assert sum(isinstance(line, Took) for line in lines) == 3
    goes_on_where_it_was(lines)
    for number, trial in search.trials.items():
        has_the_bits_of_a_job_alone(lines, number, tune, search.full(trial), trial.fidelity)
    page = build_page("small", folder)
    assert "a new coordinator took over" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def goes_on_where_it_was(lines: list[Line]) -> None:
    """No trial begins below a rung that it had passed; those of a lost process move."""
    passed: dict[int, int] = {}
    for line in lines:
        if isinstance(line, Ran) and line.value is not None:
            passed[line.trial] = line.step
        elif isinstance(line, Begun):
            assert not line.again
            assert line.first >= passed.get(line.trial, 0)
    second = [index for index, line in enumerate(lines) if isinstance(line, Took)][1]
    strokes = [(at, line) for at, line in enumerate(lines) if isinstance(line, Gone)]
    strokes = [(at, gone) for at, gone in strokes if at > second]
    assert len(strokes) == 2
    for at, gone in strokes:
        moved = next(
            line for line in lines[at:] if isinstance(line, Begun) and line.trial == gone.trial
        )
        assert moved.first
        assert moved.process != gone.process


def has_the_bits_of_a_job_alone(
    lines: list[Line], number: int, tune: LoadedTune, config: Config, steps: int
) -> None:
    """Every loss, and the state at the end, are those of a training without a search or a loss."""
    loaded = tune.job(config)
    alone = TrialTraining(0, loaded.job, loaded.workload_config)
    losses = [alone.train() for _ in range(steps)]
    told: set[int] = set()
    for line in lines:
        if isinstance(line, Ran) and line.trial == number:
            assert list(line.losses) == losses[line.first : line.step]
            told |= set(range(line.first, line.step))
            last = line
    # Of a run that had ended when all were lost its state is left, if nobody had written it down.
    assert told
    assert last.step == steps
    assert last.hash == alone.give().hash()
