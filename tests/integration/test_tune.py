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
from tests.helpers.small_tune import write_search

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def tune(tmp_path: Path) -> LoadedTune:
    """Five small trials."""
    return load_tune(write_search(tmp_path, "trials: 5", "spares: 1"))


class Killer:
    """Kills a process that trains, then the coordinator, then another process."""

    def __init__(self, folder: Path) -> None:
        self.driver: Driver | None = None
        self.killed: list[str] = []
        self._folder = folder

    def __call__(self, summary: Summary) -> None:
        """Strike when steps are done that would be missed."""
        far = [n for n, _, step in summary.running if step >= 2]
        if len(self.killed) in (0, 2) and far and summary.lost == len(self.killed) // 2:
            assert self.driver is not None
            pid = self.driver.pids.get(far[0])
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.killed.append("process")
        elif len(self.killed) == 1 and summary.lost == 1:
            assert self.driver is not None
            assert self.driver.coordinator is not None
            os.kill(self.driver.coordinator, signal.SIGKILL)
            self.killed.append("coordinator")


def run(tune: LoadedTune, folder: Path, cluster: Cluster, killer: Killer | None) -> Ended:
    """A search, disturbed or not."""
    folder.mkdir()
    driver = Driver(tune, folder, killer or (lambda summary: None))
    if killer is not None:
        killer.driver = driver
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
    folder, killer = tmp_path / "disturbed", Killer(tmp_path)
    ended = run(tune, folder, ray_cluster, killer)
    assert killer.killed == ["process", "coordinator", "process"]
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
    # And at least once in another process than the one that paused it.
    moved = [
        line
        for line in begun
        if line.first
        and (before := ran.get((line.trial, line.run - 1))) is not None
        and before.process != line.process
    ]
    assert moved
    # The same bits as a training without a search and without a loss.
    best = search.best
    assert best is not None
    job = tune.job(search.full(best))
    alone = TrialTraining(0, job.job, job.workload_config)
    losses = {step: alone.train() for step in range(1, best.fidelity + 1)}
    disturbed = curves(folder)[best.number]
    assert all(losses[step] == loss for step, loss in disturbed.items())
    last = max(line.step for line in ran.values() if line.trial == best.number)
    final = next(r for r in ran.values() if r.trial == best.number and r.step == last)
    assert alone.give().hash() == final.hash
    page = build_page("small", folder)
    assert "a new coordinator took over" in page
    assert "http" not in page.replace("http://www.w3.org", "")
