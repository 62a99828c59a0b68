"""Three Ray nodes on one machine: a lost node is survived, a lost head ends with a checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.crew import Crew
from ithaca.runtime.events import (
    CheckpointWritten,
    FailureNoticed,
    RunEnded,
    StateHashed,
    WorkerLeft,
)
from tests.helpers.driven import ROOT, STEADY, Driven, until
from tests.helpers.real_job import run_job

pytestmark = [pytest.mark.xdist_group("raylets"), pytest.mark.timeout(420)]


class Nodes:
    """A head without room for workers, and two nodes with two workers each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
        self.head = self._cluster.add_node(resources={"slot": 0}, include_dashboard=False, **small)
        self.nodes = [self._cluster.add_node(resources={"slot": 2}, **small) for _ in range(2)]
        self.address = str(self._cluster.address)

    def signal(self, node: Any, what: str, kind: signal.Signals) -> int:  # noqa: ANN401 - Ray's
        """Send ``kind`` to a daemon of a node; its process."""
        pid = int(node.all_processes[what][0].process.pid)
        os.kill(pid, kind)
        return pid

    def stop(self) -> None:
        """End all daemons, stopped ones too."""
        for node in (*self.nodes, self.head):
            for processes in node.all_processes.values():
                for each in processes:
                    if each.process.poll() is None:
                        each.process.send_signal(signal.SIGCONT)
        self._cluster.shutdown()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A cluster of its own for each test: they break it."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Nodes()
    yield made
    made.stop()


def train(nodes: Nodes, folder: Path, **changes: Any) -> Driven:  # noqa: ANN401 - YAML values
    """A run on the nodes, training."""
    run = Driven(folder, cluster={"address": nodes.address}, recovery={"replace": False}, **changes)
    try:
        until(lambda: run.step >= 10, "training")
    except BaseException:
        run.clean_up()
        raise
    return run


@pytest.fixture(scope="module")
def reference(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """State hashes of the undisturbed run, on one worker that is there already."""
    alone = {**STEADY, "steps": 200, "layout": {"pipelines": 1, "stages": 1}}
    return dict(run_job(crew, tmp_path_factory.mktemp("alone") / "run", **alone).trace.states)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_lost_node_is_survived(
    nodes: Nodes, reference: dict[int, str], tmp_path: Path, kind: signal.Signals
) -> None:
    run = train(nodes, tmp_path, steps=200)
    try:
        daemon = nodes.signal(nodes.nodes[0], "raylet", kind)
        run.finished()
        noticed = run.events(FailureNoticed)
        assert {event.failure for event in noticed} == {"node"}
        assert all(f"process {daemon}," in event.evidence for event in noticed)
        assert len(run.events(WorkerLeft)) == 2
        assert run.states()[200] == reference[200]
        assert len(run.events(StateHashed)) >= 199
    finally:
        run.clean_up()


@pytest.mark.parametrize("daemon", ["gcs_server", "raylet"])
def test_a_lost_head_ends_with_a_checkpoint_and_one_message(
    nodes: Nodes, tmp_path: Path, daemon: str
) -> None:
    run = train(nodes, tmp_path, steps=100_000)
    try:
        nodes.signal(nodes.head, daemon, signal.SIGKILL)
        code, output = run.end()
        assert code == 1, output
        assert "Traceback" not in output
        (end,) = run.events(RunEnded)
        (saved,) = run.events(CheckpointWritten)
        assert end.outcome == "failed"
        assert end.step == saved.step
        assert end.state_hash == saved.state_hash == run.states()[saved.step]
        (message,) = [line for line in output.splitlines() if line.startswith("failed after")]
        assert "is gone" in message
        assert f"{saved.step} of 100000 steps are done and saved" in message
    finally:
        run.clean_up()
