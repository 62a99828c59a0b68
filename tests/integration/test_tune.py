"""A search on real processes: workers and the coordinator are killed, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import LoadedJob
from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.driver import Driver, Ended
from ithaca.tuners.loop.load import LoadedTune, load_tune, middle
from ithaca.tuners.loop.page import build_page
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, Ran, Took, read_lines
from ithaca.tuners.loop.training import TrialTraining
from tests.helpers.driven import has_torch
from tests.helpers.small_tune import write_search

pytestmark = pytest.mark.xdist_group("ray")


BEHIND = 8
"""Steps before the gate: behind the first rung, where every trial has a state to go on from."""


@pytest.fixture
def tune(tmp_path: Path) -> LoadedTune:
    """Five small trials, each of which must pass a gate."""
    path = write_search(tmp_path, "trials: 5", "spares: 1")
    job = tmp_path / "job.yaml"
    gated = f"use: tests.helpers.gated_lm:GatedLM\n  gate: {gate(tmp_path)}\n  behind: {BEHIND}"
    job.write_text(job.read_text().replace("use: lm", gated))
    return load_tune(path)


def gate(folder: Path) -> Path:
    """The file that opens the gate."""
    return folder / "open"


class Killer:
    """Kills a process at the gate, then the coordinator, then another process; then opens."""

    def __init__(self, gate: Path) -> None:
        self.driver: Driver | None = None
        self.killed: list[str] = []
        self.torch: list[tuple[str, bool]] = []
        self._gate = gate
        self._coordinator: int | None = None

    def __call__(self, summary: Summary) -> None:
        """Strike once the search has noticed the stroke before."""
        assert self.driver is not None
        lost = self.killed.count("process")
        if summary.lost != lost or self.driver.coordinator in (None, self._coordinator):
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


def run(tune: LoadedTune, folder: Path, cluster: Cluster, killer: Killer) -> Ended:
    """A search, disturbed."""
    folder.mkdir()
    killer.driver = driver = Driver(tune, folder, killer)
    return driver.run(cluster, first_job(tune), 0.0)


def first_job(tune: LoadedTune) -> LoadedJob:
    """A job like those of the trials."""
    arm = tune.tune.make_arms()[0]
    return tune.job(arm.full(middle(arm.space)))


def curves(folder: Path) -> dict[int, dict[int, float]]:
    """Loss by trial and step, as all runs together told it."""
    found: dict[int, dict[int, float]] = {}
    for line in read_lines(folder / LOG):
        if isinstance(line, Ran):
            steps = {line.first + i + 1: loss for i, loss in enumerate(line.losses)}
            mine = found.setdefault(line.trial, {})
            assert all(mine.get(step, loss) == loss for step, loss in steps.items())
            mine |= steps
    return found


@pytest.mark.timeout(300)
def test_lost_processes_and_a_lost_coordinator_cost_no_trial(
    tune: LoadedTune, tmp_path: Path, ray_cluster: Cluster
) -> None:
    folder, killer = tmp_path / "disturbed", Killer(gate(tmp_path))
    ended = run(tune, folder, ray_cluster, killer)
    assert killer.killed == ["process", "coordinator", "process"]
    # Nobody waits for torch where a coordinator starts, at first or anew.
    assert killer.torch == [("process", True), ("coordinator", False), ("process", True)]
    assert ended.summary.again == 0
    assert ended.summary.lost == 2
    search, _ = read_journal(folder / JOURNAL)
    assert len(search.trials) == 5
    assert all(trial.failure is None for trial in search.trials.values())
    lines = list(read_lines(folder / LOG))
    assert sum(isinstance(line, Took) for line in lines) == 2
    begun = [line for line in lines if isinstance(line, Begun)]
    ran = {(line.trial, line.run): line for line in lines if isinstance(line, Ran)}
    # A promoted trial goes on at its rung, or behind it where a copy was made on the way.
    for line in begun:
        reached = [r.step for r in ran.values() if r.trial == line.trial and r.run < line.run]
        assert line.first >= max(reached, default=0)
    # And those at the gate in another process than the one that was killed.
    process = {(line.trial, line.run): line.process for line in begun}
    moved = [
        line for line in begun if line.first and process[line.trial, line.run - 1] != line.process
    ]
    assert len(moved) >= 2
    # The same bits as a training without a search and without a loss.
    disturbed = curves(folder)
    for number, trial in search.trials.items():
        job = tune.job(search.full(trial))
        alone = TrialTraining(0, job.job, job.workload_config)
        losses = {step: alone.train() for step in range(1, trial.fidelity + 1)}
        assert losses == disturbed[number]
        last = max(line.step for line in ran.values() if line.trial == number)
        final = next(r for r in ran.values() if r.trial == number and r.step == last)
        assert alone.give().hash() == final.hash
    page = build_page("small", folder)
    assert "a new coordinator took over" in page
    assert "http" not in page.replace("http://www.w3.org", "")
